"""Ask the service in this container whether it is alive: exit status 0 if it is."""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_SECONDS = 8.0


def main() -> None:
    """Ask /healthz where LISTEN_PORT says, on loopback."""
    port = int(os.environ.get("LISTEN_PORT", "5000"))
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    if os.environ.get("TLS_CERT_FILE"):
        # It asks itself: whether the certificate names loopback does not matter.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}")
        sys.exit(1)
    print(status)
    sys.exit(int(status != 200))
