-- What operators said of rules, which goes before what the rules file says.

-- +goose Up
CREATE TABLE rule_overrides (
  rule       TEXT    NOT NULL PRIMARY KEY,
  disabled   INTEGER NOT NULL,
  redirect   INTEGER NOT NULL,
  changed_at BIGINT  NOT NULL
);
