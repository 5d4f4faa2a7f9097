"""What is asked for when a machine is rented: image, disk, environment, start script. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from nightkiln.core.errors import OfferGone
from nightkiln.core.model import Kind, Need, Offer
from nightkiln.providers.vast.offers import BID_MARK
from nightkiln.providers.vast.terms import VastTerms
from nightkiln.providers.vast.values import whole

DISK_GB_MIN = 8  # the service rents no less
UNPACKED = 2.0  # x the size of a compressed image
ROOM_GB = 10.0  # for results on their way, custom nodes, caches
LIFE_S_MAX = 604_800  # a week: what the machine's switch takes

# ComfyUI listens inside of the machine only; nobody but us comes in, over SSH. Port 22 is mapped by
# the way it is started, and no other is asked for. The image starts what its portal lists: ComfyUI,
# behind no proxy, since both ports are the same; neither Jupyter nor the portal itself.
IMAGE_ENV = {
    "COMFYUI_ARGS": "--disable-auto-launch --listen 127.0.0.1 --port 18188",
    "PORTAL_CONFIG": "localhost:18188:18188:/:ComfyUI",
    "OPEN_BUTTON_PORT": "18188",
}


def disk_to_rent_gb(
    need: Need, terms: VastTerms, *, models_gb: float = 0.0, results_gb: float = 0.0
) -> int:
    """GB of disk that a lease needs; fixed for its life, and paid for all of it."""
    if need.disk_gb is not None:
        wanted = need.disk_gb
    else:
        wanted = terms.image_gb * UNPACKED + models_gb + results_gb + ROOM_GB
    least = terms.disk_gb if terms.disk_gb is not None else 0.0
    return max(DISK_GB_MIN, ceil(wanted), ceil(least))


def ask_of(offer: Offer) -> int:
    """The service's number of the offer.

    Raises:
        OfferGone: it was never made by this service.
    """
    ask = whole(offer.ref.removesuffix(BID_MARK))
    if ask is None:
        raise OfferGone(f"there is no offer {offer.ref}")
    return ask


@dataclass(frozen=True, slots=True)
class Order:
    """One machine, as it is asked for."""

    offer: Offer
    label: str
    disk_gb: int
    public_key: str  # of the batch: who may come in
    life_s: float  # until it ends by itself
    onstart: str

    def arguments(self, terms: VastTerms) -> dict[str, Any]:
        """What the SDK's ``create_instance`` takes."""
        is_bid = self.offer.kind is Kind.INTERRUPTIBLE
        return {
            "image": terms.image,
            "disk": self.disk_gb,
            "label": self.label,
            "env": self.environment(terms),
            "onstart_cmd": self.onstart,
            "runtype": "ssh_direct",
            # Else what cannot be had at once is left there, stopped, and its disk is billed.
            "cancel_unavail": True,
            # Without it an interruptible machine is silently had at the on-demand price.
            "bid_price": float(self.offer.usd_per_hour) if is_bid else None,
        }

    def environment(self, terms: VastTerms) -> dict[str, str]:
        """The container's environment; no secret of ours is in it."""
        life_s = min(max(int(self.life_s), 0), LIFE_S_MAX)
        ours = {
            "NK_KEY": self.public_key,
            "NK_API": terms.url.rstrip("/"),
            "NK_LIFE_S": str(life_s),
            "NK_QUIET_S": str(int(terms.deadman_s)),
            "NK_LAUNCH": terms.launch,
            "NK_COMFY": terms.comfy_folder,
        }
        return IMAGE_ENV | {name: value for name, value in ours.items() if value is not None}
