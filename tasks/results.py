"""Where Prefect keeps what flows return, said so that it need not ask."""

from __future__ import annotations

from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

# Prefect's usual place. A flow that names none has Prefect 3.8 ask its server for one, twice a run,
# over connections that it never closes.
RESULTS = PREFECT_LOCAL_STORAGE_PATH.value()
