"""The steps that bring a Postgres schema to what this version of the code needs; run by `stores.postgres_schema`."""
