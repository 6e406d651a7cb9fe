SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.assignments (
    key text NOT NULL,
    node text NOT NULL,
    kind text NOT NULL,
    stage text NOT NULL,
    owner text NOT NULL,
    reason text,
    created_at double precision NOT NULL,
    cancelled boolean NOT NULL,
    told_at double precision,
    seq bigint NOT NULL,
    report bytea,
    document bytea NOT NULL,
    CONSTRAINT assignments_kind CHECK ((kind = ANY (ARRAY['run'::text, 'task'::text]))),
    CONSTRAINT assignments_stage CHECK ((stage = ANY (ARRAY['offered'::text, 'sent'::text, 'taken'::text, 'ended'::text, 'withdrawn'::text])))
);
CREATE TABLE public.attempts (
    job_id text NOT NULL,
    number integer NOT NULL,
    started_at double precision,
    ended_at double precision,
    executor text,
    native_id text,
    steps bytea,
    outputs bytea,
    metadata bytea,
    CONSTRAINT attempts_number CHECK ((number >= 1))
);
CREATE TABLE public.claims (
    key text NOT NULL,
    job_id text,
    refusal text,
    said text,
    seq bigint NOT NULL,
    closed_at double precision,
    CONSTRAINT claims_say_something CHECK (((job_id IS NOT NULL) OR (refusal IS NOT NULL)))
);
CREATE TABLE public.events (
    job_id text NOT NULL,
    seq integer NOT NULL,
    attempt integer NOT NULL,
    at double precision NOT NULL,
    source text,
    target text,
    message text,
    CONSTRAINT events_say_something CHECK (((target IS NOT NULL) OR (message IS NOT NULL)))
);
CREATE TABLE public.invites (
    hash bytea NOT NULL,
    name text NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    used_by text
);
CREATE TABLE public.jobs (
    id text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    owner text NOT NULL,
    name text COLLATE pg_catalog."C",
    parent text,
    has_content boolean NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    priority integer NOT NULL,
    created_at double precision NOT NULL,
    not_before double precision NOT NULL,
    started_at double precision,
    ended_at double precision,
    lease_owner text,
    lease_until double precision,
    executor text,
    native_id text,
    idempotency_key text,
    tags bytea,
    document bytea NOT NULL,
    outputs bytea,
    project text,
    grounds bytea,
    CONSTRAINT jobs_attempt CHECK (((attempt >= 0) AND (max_attempts >= 1))),
    CONSTRAINT jobs_ended CHECK (((ended_at IS NOT NULL) = (state = ANY (ARRAY['CANCELED'::text, 'COMPLETE'::text, 'EXECUTOR_ERROR'::text, 'SYSTEM_ERROR'::text])))),
    CONSTRAINT jobs_handle_whole CHECK (((executor IS NULL) = (native_id IS NULL))),
    CONSTRAINT jobs_kind CHECK ((kind = ANY (ARRAY['run'::text, 'task'::text]))),
    CONSTRAINT jobs_lease_whole CHECK (((lease_owner IS NULL) = (lease_until IS NULL))),
    CONSTRAINT jobs_leased CHECK (((lease_owner IS NOT NULL) = (state = ANY (ARRAY['CANCELING'::text, 'INITIALIZING'::text, 'RUNNING'::text])))),
    CONSTRAINT jobs_state CHECK ((state = ANY (ARRAY['CANCELED'::text, 'CANCELING'::text, 'COMPLETE'::text, 'EXECUTOR_ERROR'::text, 'INITIALIZING'::text, 'QUEUED'::text, 'RUNNING'::text, 'SYSTEM_ERROR'::text])))
);
CREATE TABLE public.nodes (
    name text NOT NULL,
    public_key bytea NOT NULL,
    standing text NOT NULL,
    joined_at double precision NOT NULL,
    heard_at double precision NOT NULL,
    declared bytea NOT NULL,
    load bytea,
    CONSTRAINT nodes_standing CHECK ((standing = ANY (ARRAY['active'::text, 'suspended'::text])))
);
CREATE TABLE public.nonces (
    node text NOT NULL,
    nonce text NOT NULL,
    expires_at double precision NOT NULL
);
CREATE TABLE public.shares (
    owner text NOT NULL,
    running integer,
    CONSTRAINT shares_running CHECK ((running >= 0))
);
CREATE TABLE public.tags (
    key text NOT NULL,
    value text NOT NULL,
    job_id text NOT NULL
);
CREATE TABLE public.tails (
    job_id text NOT NULL,
    attempt integer NOT NULL,
    step integer NOT NULL,
    stdout bytea NOT NULL,
    stderr bytea NOT NULL
);
CREATE TABLE public.tokens (
    hash bytea NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    roles bytea NOT NULL,
    run text,
    created_at double precision NOT NULL,
    expires_at double precision,
    id text,
    groups bytea,
    scopes bytea
);
CREATE TABLE public.workers (
    id text NOT NULL,
    heartbeat_at double precision NOT NULL,
    capabilities bytea NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0005');
INSERT INTO public.attempts VALUES ('01kdvdna0cf71av03jbjatfq80', 1, 1767225600, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0dgndfk28wbtax4cjn', 1, 1767225600, 1767225601, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0etwd24e8qdncxpq0t', 1, 1767225600, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0fbbpx99t7jp5et03f', 1, 1767225600, 1767225601, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0g18zyx19esh1x94yy', 1, 1767225600, 1767225601, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0hsakm2yb3p8gcwska', 1, 1767225600, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0kp1bsxpgq5kk1rk92', 1, 1767225600, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0m00psb2kqzc99ettb', 1, 1767225600, 1767225601, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.attempts VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 1, 1767225600, 1767225603, 'docker', 'c1', '\x5b7b22737461727465645f6174223a313736373232353630302e302c22656e6465645f6174223a313736373232353630322e302c22657869745f636f6465223a302c22726561736f6e223a6e756c6c7d5d', '\x5b7b2275726c223a2266696c653a2f2f2f6f222c2270617468223a222f6f222c2273697a655f6279746573223a377d5d', '\x7b22686f7374223a2268227d');
INSERT INTO public.attempts VALUES ('01kdvdna0q45m9qtm52hpperh6', 1, 1767225600, 1767225604, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.events VALUES ('01kdvdna0cf71av03jbjatfq80', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0cf71av03jbjatfq80', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0cf71av03jbjatfq80', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0dgndfk28wbtax4cjn', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0dgndfk28wbtax4cjn', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0dgndfk28wbtax4cjn', 3, 1, 1767225601, 'INITIALIZING', 'CANCELING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0dgndfk28wbtax4cjn', 4, 1, 1767225601, 'CANCELING', 'CANCELED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0etwd24e8qdncxpq0t', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0etwd24e8qdncxpq0t', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0etwd24e8qdncxpq0t', 3, 1, 1767225601, 'INITIALIZING', 'CANCELING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0fbbpx99t7jp5et03f', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0fbbpx99t7jp5et03f', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0fbbpx99t7jp5et03f', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0fbbpx99t7jp5et03f', 4, 1, 1767225601, 'RUNNING', 'COMPLETE', NULL);
INSERT INTO public.events VALUES ('01kdvdna0g18zyx19esh1x94yy', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0g18zyx19esh1x94yy', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0g18zyx19esh1x94yy', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0g18zyx19esh1x94yy', 4, 1, 1767225601, 'RUNNING', 'EXECUTOR_ERROR', NULL);
INSERT INTO public.events VALUES ('01kdvdna0hsakm2yb3p8gcwska', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0hsakm2yb3p8gcwska', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0j1hvbw8cbhben8erc', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0kp1bsxpgq5kk1rk92', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0kp1bsxpgq5kk1rk92', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0kp1bsxpgq5kk1rk92', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0m00psb2kqzc99ettb', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0m00psb2kqzc99ettb', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0m00psb2kqzc99ettb', 3, 1, 1767225601, 'INITIALIZING', 'SYSTEM_ERROR', NULL);
INSERT INTO public.events VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 4, 1, 1767225601, NULL, NULL, 'staged 1 file');
INSERT INTO public.events VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 5, 1, 1767225603, 'RUNNING', 'COMPLETE', NULL);
INSERT INTO public.events VALUES ('01kdvdna0ptsvk2d71s9qqbw89', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0q45m9qtm52hpperh6', 1, 0, 1767225600, NULL, 'QUEUED', NULL);
INSERT INTO public.events VALUES ('01kdvdna0q45m9qtm52hpperh6', 2, 1, 1767225600, 'QUEUED', 'INITIALIZING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0q45m9qtm52hpperh6', 3, 1, 1767225601, 'INITIALIZING', 'RUNNING', NULL);
INSERT INTO public.events VALUES ('01kdvdna0q45m9qtm52hpperh6', 4, 1, 1767225604, 'RUNNING', 'QUEUED', 'lost');
INSERT INTO public.jobs VALUES ('01kdvdna0cf71av03jbjatfq80', 'run', 'RUNNING', 'alice', NULL, NULL, false, 1, 1, 1000000, 1767225600, 0, 1767225601, NULL, 'worker-1', 1767225630, NULL, NULL, NULL, NULL, '\x7b22776f726b666c6f775f74797065223a22534d4b222c22776f726b666c6f775f747970655f76657273696f6e223a2239222c22776f726b666c6f775f75726c223a22536e616b6566696c65222c22776f726b666c6f775f706172616d73223a7b7d2c22776f726b666c6f775f656e67696e65223a22736e616b656d616b65222c22776f726b666c6f775f656e67696e655f76657273696f6e223a2239222c22776f726b666c6f775f656e67696e655f706172616d6574657273223a7b7d2c2274616773223a7b7d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0dgndfk28wbtax4cjn', 'task', 'CANCELED', 'alice', 'a task that is CANCELED', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, NULL, 1767225601, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b20746861742069732043414e43454c4544222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a2243414e43454c4544222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0etwd24e8qdncxpq0t', 'task', 'CANCELING', 'alice', 'a task that is CANCELING', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, NULL, NULL, 'worker-1', 1767225630, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b20746861742069732043414e43454c494e47222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a2243414e43454c494e47222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0fbbpx99t7jp5et03f', 'task', 'COMPLETE', 'alice', 'a task that is COMPLETE', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, 1767225601, 1767225601, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b207468617420697320434f4d504c455445222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a22434f4d504c455445222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0g18zyx19esh1x94yy', 'task', 'EXECUTOR_ERROR', 'alice', 'a task that is EXECUTOR_ERROR', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, 1767225601, 1767225601, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b2074686174206973204558454355544f525f4552524f52222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a224558454355544f525f4552524f52222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0hsakm2yb3p8gcwska', 'task', 'INITIALIZING', 'alice', 'a task that is INITIALIZING', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, NULL, NULL, 'worker-1', 1767225630, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b207468617420697320494e495449414c495a494e47222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a22494e495449414c495a494e47222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0j1hvbw8cbhben8erc', 'task', 'QUEUED', 'alice', 'a task that is QUEUED', '01kdvdna0cf71av03jbjatfq80', false, 0, 1, 0, 1767225600, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b207468617420697320515545554544222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a22515545554544222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0kp1bsxpgq5kk1rk92', 'task', 'RUNNING', 'alice', 'a task that is RUNNING', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, 1767225601, NULL, 'worker-1', 1767225630, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b20746861742069732052554e4e494e47222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a2252554e4e494e47222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0m00psb2kqzc99ettb', 'task', 'SYSTEM_ERROR', 'alice', 'a task that is SYSTEM_ERROR', '01kdvdna0cf71av03jbjatfq80', false, 1, 1, 1000000, 1767225600, 0, NULL, 1767225601, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226e616d65223a2261207461736b20746861742069732053595354454d5f4552524f52222c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d2c2274616773223a7b227374617465223a2253595354454d5f4552524f52222c22c3a9223a22227d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 'task', 'COMPLETE', 'alice', NULL, NULL, true, 1, 1, 1000000, 1767225600, 0, 1767225601, 1767225603, NULL, NULL, 'docker', 'c1', NULL, NULL, '\x7b22696e70757473223a5b7b2270617468223a222f696e222c2274797065223a2246494c45222c22636f6e74656e74223a2278227d5d2c226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0ptsvk2d71s9qqbw89', 'task', 'QUEUED', 'bob', NULL, NULL, false, 0, 1, 0, 1767225600, 0, NULL, NULL, NULL, NULL, NULL, NULL, 'key', NULL, '\x7b226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d7d', NULL, NULL, NULL);
INSERT INTO public.jobs VALUES ('01kdvdna0q45m9qtm52hpperh6', 'task', 'QUEUED', 'alice', NULL, NULL, false, 1, 1, 1000000, 1767225600, 1767225660, 1767225601, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\x7b226578656375746f7273223a5b7b22696d616765223a2262757379626f783a6c6174657374222c22636f6d6d616e64223a5b226563686f222c2268656c6c6f225d7d5d7d', NULL, NULL, NULL);
INSERT INTO public.shares VALUES ('carol', 3);
INSERT INTO public.shares VALUES ('dave', NULL);
INSERT INTO public.tags VALUES ('state', 'CANCELED', '01kdvdna0dgndfk28wbtax4cjn');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0dgndfk28wbtax4cjn');
INSERT INTO public.tags VALUES ('state', 'CANCELING', '01kdvdna0etwd24e8qdncxpq0t');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0etwd24e8qdncxpq0t');
INSERT INTO public.tags VALUES ('state', 'COMPLETE', '01kdvdna0fbbpx99t7jp5et03f');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0fbbpx99t7jp5et03f');
INSERT INTO public.tags VALUES ('state', 'EXECUTOR_ERROR', '01kdvdna0g18zyx19esh1x94yy');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0g18zyx19esh1x94yy');
INSERT INTO public.tags VALUES ('state', 'INITIALIZING', '01kdvdna0hsakm2yb3p8gcwska');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0hsakm2yb3p8gcwska');
INSERT INTO public.tags VALUES ('state', 'QUEUED', '01kdvdna0j1hvbw8cbhben8erc');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0j1hvbw8cbhben8erc');
INSERT INTO public.tags VALUES ('state', 'RUNNING', '01kdvdna0kp1bsxpgq5kk1rk92');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0kp1bsxpgq5kk1rk92');
INSERT INTO public.tags VALUES ('state', 'SYSTEM_ERROR', '01kdvdna0m00psb2kqzc99ettb');
INSERT INTO public.tags VALUES ('é', '', '01kdvdna0m00psb2kqzc99ettb');
INSERT INTO public.tails VALUES ('01kdvdna0nnqjgywdwztpyvx6r', 1, 0, '\x6f757400c3bc', '\x69742773');
INSERT INTO public.tokens VALUES ('\xf896563ebe042196aec093f194b62eb4e755847b39b6d9f6ab96f58b8d11d7ac', 'weft', 'alice', '\x5b22656e67696e65225d', '01kdvdna0cf71av03jbjatfq80', 1767225600, NULL, NULL, NULL, NULL);
INSERT INTO public.workers VALUES ('worker-1', 1767225600, '\x7b226578656375746f72223a22646f636b6572227d');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (job_id, number);
ALTER TABLE ONLY public.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (job_id, seq);
ALTER TABLE ONLY public.invites
    ADD CONSTRAINT invites_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.nonces
    ADD CONSTRAINT nonces_pkey PRIMARY KEY (node, nonce);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT shares_pkey PRIMARY KEY (owner);
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT tags_pkey PRIMARY KEY (key, value, job_id);
ALTER TABLE ONLY public.tails
    ADD CONSTRAINT tails_pkey PRIMARY KEY (job_id, attempt, step);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (id);
CREATE INDEX assignments_by_node ON public.assignments USING btree (node, stage);
CREATE INDEX claims_by_job ON public.claims USING btree (job_id);
CREATE INDEX claims_open ON public.claims USING btree (key) WHERE (closed_at IS NULL);
CREATE INDEX jobs_by_kind ON public.jobs USING btree (kind, id);
CREATE INDEX jobs_by_owner ON public.jobs USING btree (kind, owner, id);
CREATE INDEX jobs_by_project ON public.jobs USING btree (kind, project, id) WHERE (project IS NOT NULL);
CREATE INDEX jobs_by_state ON public.jobs USING btree (kind, state, id);
CREATE INDEX jobs_driven ON public.jobs USING btree (kind, owner) WHERE (lease_owner IS NOT NULL);
CREATE UNIQUE INDEX jobs_idempotency ON public.jobs USING btree (owner, kind, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX jobs_lease ON public.jobs USING btree (lease_until) WHERE (lease_owner IS NOT NULL);
CREATE INDEX jobs_name ON public.jobs USING btree (kind, name, id) WHERE (name IS NOT NULL);
CREATE INDEX jobs_parent ON public.jobs USING btree (parent, id) WHERE (parent IS NOT NULL);
CREATE INDEX jobs_queue ON public.jobs USING btree (kind, owner, priority DESC, id, not_before) WHERE (state = 'QUEUED'::text);
CREATE INDEX nonces_by_end ON public.nonces USING btree (expires_at);
CREATE INDEX tags_by_key ON public.tags USING btree (key, job_id);
CREATE UNIQUE INDEX tokens_by_id ON public.tokens USING btree (id) WHERE (id IS NOT NULL);
CREATE INDEX tokens_by_run ON public.tokens USING btree (run) WHERE (run IS NOT NULL);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tails
    ADD CONSTRAINT tails_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
