-- Run once by compose's PostgreSQL when its volume is new: the lake's catalog has a database and a user of its own.
\getenv secret LAKE_SECRET
CREATE ROLE lake LOGIN PASSWORD :'secret';
CREATE DATABASE lake OWNER lake;
