"""Documents, tables and charts, made from files of figures."""
