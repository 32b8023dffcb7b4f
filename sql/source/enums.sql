-- The labels of all enums: renaming one changes what old rows print, without any event.
SELECT e.oid::int8, e.enumlabel FROM pg_enum e ORDER BY e.oid
