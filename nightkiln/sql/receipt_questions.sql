-- jobs by how they ended
select status, fault, count(*) as jobs, sum(usd) as usd
from jobs where batch = '{{batch}}' group by all order by jobs desc;

-- every job that failed
select job_id, prompt, fault, error
from jobs where batch = '{{batch}}' and status = 'failed';

-- machines, the dearest first, and what they were paid for
select host, gpu, reason, usd + jobs_usd as usd, usd_startup, usd_idle, rendering_s
from waste where batch = '{{batch}}' order by usd + jobs_usd desc;

-- the slowest jobs, beside what is usual
select prompt, gpu, gpu_seconds, times_usual
from slowest where batch = '{{batch}}' order by times_usual desc limit 20;
