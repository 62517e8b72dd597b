-- What sessions left, piece by piece.

-- +goose Up
CREATE TABLE evidence (
  session  TEXT    NOT NULL,
  number   INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  at       BIGINT  NOT NULL,
  document TEXT    NOT NULL,
  PRIMARY KEY (session, number)
);

ALTER TABLE logins ADD COLUMN succeeded_at BIGINT NOT NULL DEFAULT 0;
UPDATE logins SET succeeded_at = trusted_at;
