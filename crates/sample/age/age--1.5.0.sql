-- The catalog of a graph extension in the shape that Apache AGE gives it, in plain SQL: graphs and
-- labels known by raw OIDs, a schema per graph, label tables that inherit two parents, sequences,
-- and defaults that name graph and label. Enough to dump, to restore, and to find out whether the
-- OIDs are stale; not a query language.

CREATE DOMAIN graphid AS bigint;
CREATE DOMAIN agtype AS jsonb;
CREATE DOMAIN label_id AS int NOT NULL CHECK (VALUE > 0 AND VALUE <= 65535);
CREATE DOMAIN label_kind AS "char" NOT NULL CHECK (VALUE = 'v' OR VALUE = 'e');

CREATE TABLE ag_graph (graphid oid NOT NULL, name name NOT NULL, namespace regnamespace NOT NULL);
CREATE UNIQUE INDEX ag_graph_graphid_index ON ag_graph (graphid);
CREATE UNIQUE INDEX ag_graph_name_index ON ag_graph (name);
CREATE UNIQUE INDEX ag_graph_namespace_index ON ag_graph (namespace);

CREATE TABLE ag_label (name name NOT NULL, graph oid NOT NULL, id label_id, kind label_kind, relation regclass NOT NULL, seq_name name NOT NULL,
    CONSTRAINT fk_graph_oid FOREIGN KEY (graph) REFERENCES ag_graph (graphid));
CREATE UNIQUE INDEX ag_label_name_graph_index ON ag_label (name, graph);
CREATE UNIQUE INDEX ag_label_graph_oid_index ON ag_label (graph, id);
CREATE UNIQUE INDEX ag_label_relation_index ON ag_label (relation);
CREATE UNIQUE INDEX ag_label_seq_name_graph_index ON ag_label (seq_name, graph);

-- Both are data, not definition: a dump carries their rows, OIDs as bare numbers.
SELECT pg_catalog.pg_extension_config_dump('ag_graph', '');
SELECT pg_catalog.pg_extension_config_dump('ag_label', '');

CREATE FUNCTION ag_catalog.agtype_build_map() RETURNS agtype LANGUAGE sql IMMUTABLE AS
$$ SELECT '{}'::ag_catalog.agtype $$;

CREATE FUNCTION ag_catalog._label_id(graph_name name, label_name name) RETURNS label_id LANGUAGE sql STABLE AS
$$ SELECT l.id FROM ag_catalog.ag_label l JOIN ag_catalog.ag_graph g ON g.graphid = l.graph WHERE g.name = $1 AND l.name = $2 $$;

-- Sixteen bits of label, forty-eight of entry.
CREATE FUNCTION ag_catalog._graphid(label_id int, entry_id bigint) RETURNS graphid LANGUAGE sql IMMUTABLE AS
$$ SELECT ((label_id::bigint << 48) | (entry_id & 281474976710655))::ag_catalog.graphid $$;

CREATE FUNCTION ag_catalog._extract_label_id(id graphid) RETURNS label_id LANGUAGE sql IMMUTABLE AS
$$ SELECT ((id::bigint >> 48) & 65535)::int::ag_catalog.label_id $$;

CREATE FUNCTION ag_catalog._create_label(graph_name name, label_name name, label_kind "char", parent name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    graph oid; number int; seq name := label_name || '_id_seq'; heirs text := ''; columns text;
BEGIN
    SELECT g.graphid INTO graph FROM ag_catalog.ag_graph g WHERE g.name = graph_name;
    IF graph IS NULL THEN RAISE EXCEPTION 'graph "%" does not exist', graph_name USING ERRCODE = '3F000'; END IF;
    EXECUTE format('SELECT nextval(%L)', format('%I._label_id_seq', graph_name)) INTO number;
    EXECUTE format('CREATE SEQUENCE %I.%I MAXVALUE 281474976710655', graph_name, seq);
    IF parent IS NULL THEN
        columns := 'id ag_catalog.graphid NOT NULL PRIMARY KEY, '
            || CASE label_kind WHEN 'e' THEN 'start_id ag_catalog.graphid NOT NULL, end_id ag_catalog.graphid NOT NULL, ' ELSE '' END
            || 'properties ag_catalog.agtype NOT NULL DEFAULT ag_catalog.agtype_build_map()';
    ELSE
        columns := '';
        heirs := format(' INHERITS (%I.%I)', graph_name, parent);
    END IF;
    EXECUTE format('CREATE TABLE %I.%I (%s)%s', graph_name, label_name, columns, heirs);
    EXECUTE format('ALTER TABLE %I.%I ALTER COLUMN id SET DEFAULT ag_catalog._graphid((ag_catalog._label_id(%L::name, %L::name))::integer, nextval(%L::regclass))',
        graph_name, label_name, graph_name, label_name, format('%I.%I', graph_name, seq));
    EXECUTE format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.id', graph_name, seq, graph_name, label_name);
    INSERT INTO ag_catalog.ag_label VALUES (label_name, graph, number, label_kind, format('%I.%I', graph_name, label_name)::regclass, seq);
END $$;

CREATE FUNCTION ag_catalog.create_graph(graph_name name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ag_catalog.ag_graph g WHERE g.name = graph_name) THEN
        RAISE EXCEPTION 'graph "%" already exists', graph_name USING ERRCODE = '42P06';
    END IF;
    EXECUTE format('CREATE SCHEMA %I', graph_name);
    EXECUTE format('CREATE SEQUENCE %I._label_id_seq AS integer MAXVALUE 65535 CYCLE', graph_name);
    INSERT INTO ag_catalog.ag_graph SELECT n.oid, graph_name, n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = graph_name;
    PERFORM ag_catalog._create_label(graph_name, '_ag_label_vertex', 'v', NULL);
    PERFORM ag_catalog._create_label(graph_name, '_ag_label_edge', 'e', NULL);
END $$;

CREATE FUNCTION ag_catalog.create_vlabel(graph_name name, label_name name) RETURNS void LANGUAGE sql AS
$$ SELECT ag_catalog._create_label($1, $2, 'v', '_ag_label_vertex') $$;
CREATE FUNCTION ag_catalog.create_elabel(graph_name name, label_name name) RETURNS void LANGUAGE sql AS
$$ SELECT ag_catalog._create_label($1, $2, 'e', '_ag_label_edge') $$;

CREATE FUNCTION ag_catalog.drop_graph(graph_name name, cascade boolean = false) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP SCHEMA %I %s', graph_name, CASE WHEN cascade THEN 'CASCADE' ELSE 'RESTRICT' END);
    DELETE FROM ag_catalog.ag_label l USING ag_catalog.ag_graph g WHERE l.graph = g.graphid AND g.name = graph_name;
    DELETE FROM ag_catalog.ag_graph g WHERE g.name = graph_name;
END $$;

-- Counts the vertices, or the edges when the pattern has brackets: all the Cypher there is. Like
-- the real thing it resolves labels by OID, and fails when these are stale.
CREATE FUNCTION ag_catalog.cypher(graph_name name, query_string text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    graph oid; place oid; total bigint := 0; part bigint; label regclass;
    wanted "char" := CASE WHEN query_string LIKE '%[%]%' THEN 'e' ELSE 'v' END;
BEGIN
    SELECT g.graphid, g.namespace INTO graph, place FROM ag_catalog.ag_graph g WHERE g.name = graph_name;
    IF graph IS NULL THEN RAISE EXCEPTION 'graph "%" does not exist', graph_name USING ERRCODE = '3F000'; END IF;
    IF query_string !~* '^\s*MATCH .* RETURN count\(\w+\)\s*$' THEN
        RAISE EXCEPTION 'only MATCH … RETURN count(…) is understood here' USING ERRCODE = '0A000';
    END IF;
    IF graph <> place THEN RAISE EXCEPTION 'graph with oid % does not exist', graph USING ERRCODE = '3F000'; END IF;
    FOR label IN SELECT l.relation FROM ag_catalog.ag_label l WHERE l.graph = place AND l.kind = wanted LOOP
        EXECUTE format('SELECT count(*) FROM ONLY %s', label) INTO part;
        total := total + part;
    END LOOP;
    RETURN QUERY SELECT to_jsonb(total)::ag_catalog.agtype;
END $$;
