"""Studies: many runs planned by one YAML file, one table, figures."""
