-- What of a session changes the text of answers, or what names mean. One row; read by name.
select current_setting('TimeZone') as "TimeZone",
       current_setting('DateStyle') as "DateStyle",
       current_setting('IntervalStyle') as "IntervalStyle",
       current_setting('bytea_output') as bytea_output,
       current_setting('extra_float_digits') as extra_float_digits,
       current_setting('client_encoding') as client_encoding,
       current_setting('server_encoding') as server_encoding,
       current_setting('standard_conforming_strings') as standard_conforming_strings,
       current_setting('transform_null_equals') as transform_null_equals,
       current_setting('row_security') as row_security,
       current_setting('default_transaction_isolation') as default_transaction_isolation,
       current_setting('transaction_isolation') as transaction_isolation,
       (select setting from pg_catalog.pg_settings where name = 'statement_timeout') as statement_timeout_ms,
       pg_catalog.to_json(pg_catalog.current_schemas(true))::pg_catalog.text as schemas,
       -- A session's schema of temporary objects outlives them.
       pg_catalog.pg_my_temp_schema() <> 0 and (
           exists (select from pg_catalog.pg_class where relnamespace = pg_catalog.pg_my_temp_schema())
           or exists (select from pg_catalog.pg_type where typnamespace = pg_catalog.pg_my_temp_schema())
       ) as temporary,
       current_user::pg_catalog.text as role
