"""Stand-ins for what a simulated machine lacks: a GPU, a disk of its own, the image's launcher.

Shell scripts, because each machine runs them often and a shell starts in a millisecond.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KIBIBYTES_PER_GB = 1024**2
DRIVER = "570.124.06"


@dataclass(frozen=True, slots=True)
class Card:
    """What ``nvidia-smi`` says."""

    gpu: str
    total_mb: int
    free_mb: int
    cuda: str
    is_busy: bool  # another tenant computes on it


_NVIDIA_SMI = """#!/bin/sh
# Stands in for nvidia-smi: says what card this simulated machine has.
query= apps= header=1 units=1 mode=table
for word; do
  case $word in
    --query-gpu=*) query=${word#*=} mode=gpu ;;
    --query-compute-apps=*) query=${word#*=} mode=apps ;;
    --format=*)
      case $word in *noheader*) header= ;; esac
      case $word in *nounits*) units= ;; esac ;;
    -L | --list-gpus) mode=list ;;
    -i | --id=* | 0) ;;
    *) echo "Invalid combination of input arguments."; exit 2 ;;
  esac
done
row() { # the values of the fields asked for; $1 is nothing, or the word for their names
  line= sep=
  for field in $(echo "$query" | tr ',' ' '); do
    unit=
    case $field in
      name | gpu_name) value=$gpu ;;
      memory.total) value=$total unit=MiB ;;
      memory.free) value=$free unit=MiB ;;
      memory.used) value=$((total - free)) unit=MiB ;;
      utilization.gpu) value=$busy unit=% ;;
      driver_version) value=$driver ;;
      count | gpu_count) value=1 ;;
      index) value=0 ;;
      uuid | gpu_uuid) value=GPU-00000000-0000-0000-0000-000000000000 ;;
      pid) value=4242 ;;
      process_name) value='[Not Found]' ;;
      used_memory | used_gpu_memory) value=$((total - free)) unit=MiB ;;
      *) echo "Field \\"$field\\" is not a valid field to query."; exit 2 ;;
    esac
    if [ "$1" ]; then value=$field; [ -z "$unit" ] || value="$value [$unit]"
    elif [ "$units" ] && [ "$unit" ]; then value="$value $unit"; fi
    line="$line$sep$value" sep=', '
  done
  echo "$line"
}
case $mode in
  list) echo "GPU 0: $gpu (UUID: GPU-00000000-0000-0000-0000-000000000000)" ;;
  table)
    echo "| NVIDIA-SMI $driver     Driver Version: $driver     CUDA Version: $cuda     |"
    echo "| 0  $gpu  | $((total - free))MiB / ${total}MiB | $busy%  Default |" ;;
  *)
    [ -z "$header" ] || row name
    [ $mode = apps ] && [ "$busy" = 0 ] || row ;;
esac
"""

_DF = """#!/bin/sh
# Stands in for df: this simulated machine's disk is as large as was rented, whoever's it lies on.
columns= unit=1024
for word; do
  case $word in
    --output=*) columns=${word#*=} ;;
    -B1 | --block-size=1) unit=1 ;;
    -BG | -BM | -h) echo "df: this stand-in knows -P, -k, -B1 and --output=" >&2; exit 1 ;;
  esac
done
used=$(du -sk "$home" | cut -f 1)
free=$((total - used))
[ "$free" -ge 0 ] || free=0
in_units() { echo $(($1 * 1024 / unit)); }
if [ -z "$columns" ]; then
  echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
  echo "overlay $(in_units "$total") $(in_units "$used") $(in_units "$free")" \\
    "$((used * 100 / total))% /"
  exit
fi
names= values=
for column in $(echo "$columns" | tr ',' ' '); do
  case $column in
    size) name=1K-blocks value=$(in_units "$total") ;;
    used) name=Used value=$(in_units "$used") ;;
    avail) name=Avail value=$(in_units "$free") ;;
    *) echo "df: this stand-in has no column $column" >&2; exit 1 ;;
  esac
  names="$names $name" values="$values $value"
done
echo "${names# }"
echo "${values# }"
"""

_ENTRYPOINT = """#!/bin/sh
# Stands in for the image's launcher: keeps a ComfyUI running, as its supervisord does.
sleep "$app_s"
while :; do
  set --
  if [ "$lists_models" ]; then
    for file in "$HOME"/ComfyUI/models/checkpoints/*; do
      case $file in *.nightkiln-part | *'*') ;; *) set -- "$@" --checkpoint "${file##*/}" ;; esac
    done
  fi
  rm -f "$run/comfy.out"
  @comfy@ "$@" >"$run/comfy.out" 2>&1 &
  echo $! >"$run/comfy.new" && mv "$run/comfy.new" "$run/comfy.pid"
  wait $!
  sleep 0.2
done
"""

_SUPERVISORCTL = """#!/bin/sh
# Stands in for supervisorctl: restart comfyui.
[ "$1" = restart ] || { echo "this stand-in only restarts" >&2; exit 2; }
[ -f "$run/comfy.pid" ] || { echo "$2: ERROR (not running)"; exit 0; } # it is about to start anyway
old=$(cat "$run/comfy.pid")
kill "$old" 2>/dev/null
tries=0
while [ "$(cat "$run/comfy.pid")" = "$old" ] && [ "$tries" -lt 300 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
[ "$(cat "$run/comfy.pid")" != "$old" ] || { echo "$2: ERROR (abnormal termination)"; exit 7; }
echo "$2: stopped"
echo "$2: started"
"""

_CURL = """#!/bin/sh
# The system's curl, but that ComfyUI's port is another one here: machines share a computer's.
said='s|^listening on http://127.0.0.1:\\([0-9]*\\).*|\\1|p'
port=$fixed
[ "$port" ] || port=$(sed -n "$said" "$run/comfy.out")
PATH=$system
exec curl "$@" --connect-to "127.0.0.1:$published:127.0.0.1:$port"
"""

_COMFY_PYTHON = """#!/bin/sh
# Stands in for the Python that ComfyUI runs in: what pip would install is only written down.
echo "$*" >>"$run/pip.log"
"""


def nvidia_smi(card: Card) -> str:
    """Says what ``card`` is, as a table, a list, or by ``--query-gpu``."""
    facts = {
        "gpu": card.gpu,
        "total": card.total_mb,
        "free": card.free_mb,
        "cuda": card.cuda,
        "driver": DRIVER,
        "busy": 97 if card.is_busy else 0,
    }
    return _with(_NVIDIA_SMI, facts)


def df(disk_gb: float, home: Path) -> str:
    """Says that the disk holds ``disk_gb``, of which ``home`` takes what it takes."""
    return _with(_DF, {"total": int(disk_gb * KIBIBYTES_PER_GB), "home": home})


def entrypoint(comfy: Sequence[str], *, app_s: float, run: Path, lists_models: bool) -> str:
    """Keeps the command ``comfy`` running; with the models it has as options, if it takes them."""
    facts = {
        "app_s": f"{app_s:.3f}",
        "run": run,
        "lists_models": "yes" if lists_models else "",
    }
    return _with(_ENTRYPOINT.replace("@comfy@", shlex.join(comfy)), facts)


def supervisorctl(run: Path) -> str:
    """Restarts what the entrypoint keeps running."""
    return _with(_SUPERVISORCTL, {"run": run})


def curl(run: Path, *, published: int, fixed: int | None, system: str) -> str:
    """Asks ComfyUI where it really listens, who asks at its ``published`` port."""
    told = "" if fixed is None else fixed
    return _with(_CURL, {"run": run, "published": published, "fixed": told, "system": system})


def comfy_python(run: Path) -> str:
    """Writes down what ComfyUI's pip was asked for."""
    return _with(_COMFY_PYTHON, {"run": run})


def _with(script: str, facts: Mapping[str, object]) -> str:
    """The script with its facts below its first line."""
    first, _, rest = script.partition("\n")
    settings = [f"{name}={shlex.quote(str(value))}" for name, value in facts.items()]
    return "\n".join([first, *settings, rest])
