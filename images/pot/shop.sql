CREATE TABLE customers (
  id integer PRIMARY KEY,
  name varchar(80) NOT NULL,
  mail varchar(120) NOT NULL,
  city varchar(60) NOT NULL,
  since date NOT NULL
);
INSERT INTO customers VALUES
  (1001, 'Anna Lindner', 'a.lindner@example.net', 'Kassel', '2019-03-11'),
  (1002, 'Jonas Weber', 'jonas@example.org', 'Bremen', '2019-07-02'),
  (1003, 'Marta Nowak', 'm.nowak@example.com', 'Poznan', '2020-01-23'),
  (1004, 'Piet de Vries', 'pdv@example.net', 'Utrecht', '2020-11-30'),
  (1005, 'Clara Rossi', 'clara.rossi@example.org', 'Torino', '2021-05-17'),
  (1006, 'Henrik Dahl', 'hdahl@example.com', 'Aarhus', '2022-02-08');
CREATE TABLE orders (
  id integer PRIMARY KEY,
  customer integer NOT NULL,
  placed timestamp NOT NULL,
  total numeric(9,2) NOT NULL,
  state varchar(12) NOT NULL
);
INSERT INTO orders VALUES
  (50211, 1002, '2023-02-03 09:12:44', 84.50, 'shipped'),
  (50212, 1005, '2023-02-03 11:40:02', 19.90, 'shipped'),
  (50213, 1001, '2023-02-04 18:03:57', 240.00, 'paid'),
  (50214, 1006, '2023-02-05 07:21:19', 63.75, 'open'),
  (50215, 1003, '2023-02-05 20:55:31', 12.00, 'cancelled');
