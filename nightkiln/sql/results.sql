-- Every row of every shard, as committed. filename tells two copies of a row apart.
create or replace view _results as
select *, filename
from read_parquet('{{root}}results/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date});
