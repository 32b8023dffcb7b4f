CREATE TABLE source ({columns});
CREATE TABLE copy ({columns});
