-- As it was parsed: as JSON an entry is parsed anew for each of its values that is asked for.
DROP FUNCTION each_entry(TEXT);
CREATE FUNCTION each_entry(list TEXT) RETURNS TABLE (key BIGINT, value JSONB, atom TEXT)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT e.n - 1, e.v, CASE WHEN jsonb_typeof(e.v) NOT IN ('object', 'array') THEN e.v #>> '{}' END
    FROM jsonb_array_elements(CASE jsonb_typeof(list::jsonb) WHEN 'array' THEN list::jsonb ELSE '[]' END)
        WITH ORDINALITY e(v, n) $$;
