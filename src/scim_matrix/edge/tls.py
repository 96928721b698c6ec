"""Serve TLS, with certificates that are renewed while the service runs."""

import ssl
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def load(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what connections are served with, None where there is no certificate.

    Raises OSError and ssl.SSLError where the files cannot be used.
    """
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def renew(context: ssl.SSLContext, certificate: Path | None, key: Path | None) -> None:
    """Use a renewed certificate for new connections; a broken one is reported."""
    if certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        log.error("certificate_refused", error=str(error), in_force="the former one")  # noqa: TRY400
    else:
        log.info("certificate_loaded")
