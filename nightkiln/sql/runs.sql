-- One row per run of a batch; ended_at is null while it works, and for ever if it was killed.
create or replace view runs as
select * exclude (phase, columns_json, date)
from read_parquet('{{root}}batches/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date})
qualify row_number() over (partition by batch, epoch order by phase) = 1; -- 'end' < 'start'
