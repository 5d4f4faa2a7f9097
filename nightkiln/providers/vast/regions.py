"""Which countries a region's name means; the service's own expansion loses other filters."""

from __future__ import annotations

from collections.abc import Iterable

# ISO 3166 codes, as the end of an offer's ``geolocation`` has them.
REGIONS = {
    "EU": "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE",
    "EUROPE": "AL AD AT BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GI GR HR HU IE IM IS IT LI "
    "LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SK SM UA VA XK",
    "NORTH_AMERICA": "US CA MX",
    "SOUTH_AMERICA": "AR BO BR CL CO EC GY PE PY SR UY VE",
    "ASIA": "AE AM AZ BD BH BN CN GE HK ID IL IN IQ IR JO JP KG KH KR KW KZ LA LB LK MM MN MO MY "
    "NP OM PH PK QA SA SG TH TJ TM TR TW UZ VN YE",
    "OCEANIA": "AU FJ NZ PG",
    "AFRICA": "AO BW CI CM DZ EG ET GH KE LY MA MU MZ NA NG RW SD SN TN TZ UG ZA ZM ZW",
}


def countries(names: Iterable[str]) -> list[str]:
    """Country codes of regions and countries, each once, sorted.

    What is no region's name is taken as a country's code: the service knows more of them.
    """
    wanted = (name.strip().upper().replace(" ", "_").replace("-", "_") for name in names)
    return sorted({code for name in wanted for code in REGIONS.get(name, name).split()})
