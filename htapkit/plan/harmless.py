"""PostgreSQL's own functions that neither write, lock, nor change the session.

`FINISHING` are those among them that give the same value for the same arguments within a
statement, so that PostgreSQL may compute them on a local result.
"""

from __future__ import annotations

_FINISHING = """
abs acos acosd acosh age array_append array_cat array_dims array_length array_lower array_ndims
array_position array_positions array_prepend array_remove array_replace array_to_json
array_to_string array_upper ascii asin asind asinh atan atan2 atanh bit_count bit_length
broadcast btrim cardinality cbrt ceil ceiling char_length character_length chr coalesce concat
concat_ws convert_from convert_to cos cosd cosh cot date_bin date_part date_trunc decode degrees
div encode erf exp extract factorial family floor format format_type gcd get_bit get_byte
greatest host hostmask inet_merge initcap int4range int8range isempty isfinite json_array_length
json_build_array json_build_object json_extract_path json_extract_path_text json_strip_nulls
json_typeof jsonb_array_length jsonb_build_array jsonb_build_object jsonb_extract_path
jsonb_extract_path_text jsonb_path_exists jsonb_path_match jsonb_path_query_array
jsonb_path_query_first jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_typeof justify_days
justify_hours justify_interval lcm least left length ln log log10 lower lower_inc lower_inf lpad
ltrim make_date make_interval make_time make_timestamp make_timestamptz masklen md5 min_scale
mod netmask network normalize nullif num_nonnulls num_nulls numnode octet_length overlay
pg_size_pretty pg_typeof pi position power quote_ident quote_literal quote_nullable radians
regexp_count regexp_instr regexp_like regexp_match regexp_replace regexp_split_to_array
regexp_substr repeat replace reverse right round rpad rtrim scale sha224 sha256 sha384 sha512
sign sin sind sinh split_part sqrt starts_with string_to_array strpos substr substring tan tand
tanh text timezone to_ascii to_char to_date to_hex to_json to_jsonb to_number to_timestamp
translate trim trim_array trim_scale trunc unaccent upper upper_inc upper_inf width_bucket
"""

_AGGREGATES = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp
cume_dist dense_rank every first_value grouping json_agg json_object_agg jsonb_agg
jsonb_object_agg lag last_value lead max min mode nth_value ntile percent_rank percentile_cont
percentile_disc range_agg rank regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
regr_sxx regr_sxy regr_syy row_number stddev stddev_pop stddev_samp string_agg sum var_pop
var_samp variance xmlagg
"""

_OTHERS = """
array bool box bpchar cidr circle clock_timestamp col_description current_catalog
current_database current_date current_query current_role current_schema current_schemas
current_setting current_time current_timestamp current_user date daterange enum_first enum_last
enum_range float4 float8 gen_random_uuid generate_series generate_subscripts
has_any_column_privilege has_column_privilege has_database_privilege has_function_privilege
has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege
has_tablespace_privilege has_type_privilege inet inet_client_addr inet_server_addr
inet_server_port information_schema._pg_expandarray int2 int4 int8 json_array_elements
json_array_elements_text json_each json_each_text json_object_keys jsonb_array_elements
jsonb_array_elements_text jsonb_each jsonb_each_text jsonb_object_keys localtime localtimestamp
now numeric numrange obj_description oidvectortypes overlaps pg_backend_pid pg_char_to_encoding
pg_client_encoding pg_collation_is_visible pg_conf_load_time pg_conversion_is_visible
pg_database_size pg_describe_object pg_encoding_to_char pg_function_is_visible
pg_get_constraintdef pg_get_expr pg_get_function_arguments pg_get_function_identity_arguments
pg_get_function_result pg_get_functiondef pg_get_indexdef pg_get_keywords
pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables pg_get_ruledef
pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid
pg_get_viewdef pg_has_role pg_index_column_has_property pg_indexes_size pg_is_in_recovery
pg_is_other_temp_schema pg_my_temp_schema pg_opclass_is_visible pg_operator_is_visible
pg_postmaster_start_time pg_relation_filenode pg_relation_is_publishable pg_relation_size
pg_sequence_last_value pg_show_all_settings pg_statistics_obj_is_visible pg_table_is_visible
pg_table_size pg_tablespace_location pg_tablespace_size pg_total_relation_size
pg_ts_config_is_visible pg_ts_dict_is_visible pg_type_is_visible random regclass regexp_matches
regexp_split_to_table regprocedure regtype row row_to_json session_user shobj_description
statement_timestamp string_to_table timeofday to_regclass to_regnamespace to_regproc to_regtype
transaction_timestamp tsrange tstzrange unnest user uuid uuid_extract_timestamp uuidv4 uuidv7
version xml xmlelement
"""

FINISHING = frozenset(_FINISHING.split())
"""Immutable or stable functions of single values."""

HARMLESS = FINISHING | frozenset(_AGGREGATES.split()) | frozenset(_OTHERS.split())
"""By PostgreSQL's name; a name with a schema other than pg_catalog never matches."""
