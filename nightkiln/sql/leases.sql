-- One row per lease that is over, with what it cost.
create or replace view leases as
select *
from read_parquet('{{root}}leases/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date})
qualify row_number() over (partition by lease_id order by released_at desc) = 1;
