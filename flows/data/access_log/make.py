"""Makes `access.log`: a day of a small web server, in the combined format of Apache, the same lines in every run."""

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

PAGES = ["/", "/products", "/products/17", "/products/23", "/cart", "/login", "/about", "/search?q=shoes&page=2"]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
    "ExampleBot/2.1 (+https://bot.example/\\\"about\\\")",
]
# What scanners send to any open port.
GARBAGE = r"\x16\x03\x01\x00\xee\x01"

rng = random.Random(7)
at = datetime(2026, 3, 14, tzinfo=timezone(timedelta(hours=1)))
lines = []
for number in range(1200):
    at += timedelta(seconds=rng.expovariate(1 / 70))
    client = f"198.51.100.{rng.randint(1, 60)}" if rng.random() < 0.9 else f"2001:db8::{rng.randint(1, 0xFFFF):x}"
    user = rng.choice(["-", "-", "-", "ada"])
    status = rng.choices([200, 304, 302, 404, 500], [80, 8, 4, 6, 2])[0]
    size = "-" if status == 304 else rng.randint(200, 50_000)
    request = f"{rng.choice(['GET', 'GET', 'GET', 'POST'])} {rng.choice(PAGES)} HTTP/1.1"
    if rng.random() < 0.01:
        request, status, size = GARBAGE, 400, 226
    stamp = at.strftime("%d/%b/%Y:%H:%M:%S %z")
    line = f'{client} - {user} [{stamp}] "{request}" {status} {size} "-" "{rng.choice(AGENTS)}"'
    # A line that was cut when the disk was full.
    lines.append(line[:40] if number in (333, 901) else line)
Path(__file__).with_name("access.log").write_text("\n".join(lines) + "\n")
