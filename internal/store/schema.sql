-- What the migrations make, by name. A test keeps it so; to change the schema write a migration.

CREATE TABLE allow (
  prefix     TEXT   NOT NULL PRIMARY KEY,
  note       TEXT   NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE VIEW attackers AS
  SELECT source,
    MIN(first_at)   AS first_seen_at,
    MAX(last_at)    AS last_seen_at,
    SUM(offences)   AS offences,
    SUM(guesses)    AS guesses,
    SUM(redirects)  AS redirects,
    SUM(live)       AS live,
    SUM(sessions)   AS sessions
  FROM (
    SELECT source, fired_at AS first_at, fired_at AS last_at,
      1 AS offences, guesses, 0 AS redirects, 0 AS live, 0 AS sessions
    FROM offences WHERE source <> ''
    UNION ALL
    SELECT source, created_at, created_at, 0, 0, 1,
      CASE WHEN state IN ('pending', 'active', 'refused') THEN 1 ELSE 0 END, 0
    FROM redirects
    UNION ALL
    SELECT attacker, started_at, CASE WHEN ended_at > 0 THEN ended_at ELSE started_at END, 0, 0, 0, 0, 1
    FROM sessions
  ) AS deeds
  GROUP BY source;

CREATE TABLE checkpoint (
  id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  sequence BIGINT  NOT NULL,
  state    BLOB    NOT NULL,
  saved_at BIGINT  NOT NULL
);

CREATE TABLE counters (
  name  TEXT   NOT NULL,
  label TEXT   NOT NULL,
  value BIGINT NOT NULL,
  PRIMARY KEY (name, label)
);

CREATE TABLE evidence (
  session  TEXT    NOT NULL,
  number   INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  at       BIGINT  NOT NULL,
  document TEXT    NOT NULL,
  PRIMARY KEY (session, number)
);

CREATE TABLE hosts (
  name         TEXT   NOT NULL PRIMARY KEY,
  enrolled_at  BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  document     TEXT   NOT NULL
);

CREATE VIEW leases AS
  SELECT id, source AS attacker, host, node, created_at, expires_at, document
  FROM redirects
  WHERE state IN ('pending', 'active', 'refused') AND node <> '';

CREATE TABLE logins (
  host       TEXT    NOT NULL,
  source     TEXT    NOT NULL,
  trusted_at BIGINT  NOT NULL,
  failed_at  BIGINT  NOT NULL,
  last_at    BIGINT  NOT NULL,
  failures   INTEGER NOT NULL,
  account    TEXT    NOT NULL, succeeded_at BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (host, source)
);

CREATE INDEX logins_by_time ON logins (last_at);

CREATE TABLE nodes (
  name         TEXT   NOT NULL PRIMARY KEY,
  enrolled_at  BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  document     TEXT   NOT NULL
);

CREATE TABLE offences (
  id       TEXT    NOT NULL PRIMARY KEY,
  host     TEXT    NOT NULL,
  source   TEXT    NOT NULL,
  guesses  INTEGER NOT NULL,
  fired_at BIGINT  NOT NULL,
  document TEXT    NOT NULL
);

CREATE INDEX offences_by_source ON offences (source, fired_at);

CREATE INDEX offences_by_time ON offences (fired_at, id);

CREATE TABLE persona_assignments (
  host       TEXT   NOT NULL PRIMARY KEY,
  persona    TEXT   NOT NULL,
  changed_at BIGINT NOT NULL
);

CREATE TABLE personas (
  host       TEXT   NOT NULL PRIMARY KEY,
  changed_at BIGINT NOT NULL,
  document   TEXT   NOT NULL
);

CREATE TABLE pots (
  node       TEXT   NOT NULL,
  id         TEXT   NOT NULL,
  attacker   TEXT   NOT NULL,
  host       TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  document   TEXT   NOT NULL,
  PRIMARY KEY (node, id)
);

CREATE INDEX pots_by_attacker ON pots (attacker, created_at);

CREATE TABLE redirects (
  id         TEXT   NOT NULL PRIMARY KEY,
  offence_id TEXT   NOT NULL,
  host       TEXT   NOT NULL,
  source     TEXT   NOT NULL,
  node       TEXT   NOT NULL,
  state      TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  document   TEXT   NOT NULL
);

CREATE INDEX redirects_by_offence ON redirects (offence_id);

CREATE INDEX redirects_by_source ON redirects (source, created_at);

CREATE INDEX redirects_by_state ON redirects (state, created_at);

CREATE INDEX redirects_by_time ON redirects (created_at, id);

CREATE TABLE rule_overrides (
  rule       TEXT    NOT NULL PRIMARY KEY,
  disabled   INTEGER NOT NULL,
  redirect   INTEGER NOT NULL,
  changed_at BIGINT  NOT NULL
);

CREATE TABLE sessions (
  id         TEXT   NOT NULL PRIMARY KEY,
  node       TEXT   NOT NULL,
  host       TEXT   NOT NULL,
  attacker   TEXT   NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at   BIGINT NOT NULL,
  document   TEXT   NOT NULL
);

CREATE INDEX sessions_by_attacker ON sessions (attacker, started_at);

CREATE INDEX sessions_by_time ON sessions (started_at, id);

CREATE TABLE settings (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE tokens (
  hash       TEXT   NOT NULL PRIMARY KEY,
  role       TEXT   NOT NULL,
  name       TEXT   NOT NULL,
  expires_at BIGINT NOT NULL,
  claimant   TEXT   NOT NULL
);
