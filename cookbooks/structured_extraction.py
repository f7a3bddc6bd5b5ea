"""Get an object instead of text: `output_type` takes a pydantic model, or any type pydantic can validate.

The model is shown the JSON schema. A value that does not validate goes back to it with the reason. The context here is
JSON values, which model code sees as they are.

    OPENAI_API_KEY=... python cookbooks/structured_extraction.py
"""

import os
import random
from typing import Any

from pydantic import BaseModel

from rlm_integrations import RLM


class Invoice(BaseModel):
    number: str
    vendor: str
    total: float


VENDORS = ["Alder & Sons", "Birch Ltd", "Cedar GmbH", "Douglas Oy", "Elm SA", "Fir BV"]


def ledger(invoices: int = 3_000) -> list[dict[str, Any]]:
    rng = random.Random(4)
    return [
        {
            "number": str(number),
            "vendor": rng.choice(VENDORS),
            "total": rng.randint(100, 99_999) / 100,
            "paid": rng.random() < 0.8,
        }
        for number in range(70_000, 70_000 + invoices)
    ]


rlm = RLM(
    os.environ.get("RLM_MODEL", "openai/gpt-5-mini"),
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
    output_type=Invoice,
)
invoice = rlm.completion("Which invoice has the number 71848?", ledger())

print(repr(invoice))
print(f"{invoice.vendor} gets {invoice.total:.2f} EUR")
