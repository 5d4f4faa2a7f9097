-- One row per quote: what was expected of a run before it cost anything, and whether it was taken.
create or replace view quotes as
select *
from read_parquet('{{root}}quotes/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date});
