-- What hosts are like, as their agents learnt it, and which persona operators have assigned to whom.

-- +goose Up
CREATE TABLE personas (
  host       TEXT   NOT NULL PRIMARY KEY,
  changed_at BIGINT NOT NULL,
  document   TEXT   NOT NULL
);

CREATE TABLE persona_assignments (
  host       TEXT   NOT NULL PRIMARY KEY,
  persona    TEXT   NOT NULL,
  changed_at BIGINT NOT NULL
);
