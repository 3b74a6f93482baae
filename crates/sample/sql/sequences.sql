-- Every owned sequence goes to the largest id of its table, heirs included.
DO $$
DECLARE r record; largest bigint;
BEGIN
    FOR r IN SELECT s.oid::regclass AS seq, t.oid::regclass AS tab, a.attname FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_class t ON t.oid = d.refobjid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        WHERE d.deptype = 'a' AND t.relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('SELECT max(%I) FROM %s', r.attname, r.tab) INTO largest;
        IF largest IS NOT NULL THEN PERFORM setval(r.seq, largest); END IF;
    END LOOP;
END $$;
