"""Answers that must be of one kind."""

from typing import Any

from nio import DeleteDevicesAuthResponse, ErrorResponse, Response
from nio.responses import RegisterInteractiveResponse


def ok(response: Any) -> Any:
    """The request must have been accepted; returns the answer."""
    assert isinstance(response, Response), response
    assert not isinstance(response, (ErrorResponse, DeleteDevicesAuthResponse)), f"{response}"
    # Some of nio's checks of answers let errors pass; a challenge to register comes with 401.
    status = response.transport_response.status
    assert status < 400 or isinstance(response, RegisterInteractiveResponse), f"{status} {response}"
    return response


def refused(response: Any, status: int, *errcodes: str) -> Any:
    """The request must have been answered with this status and one of these error codes; returns the answer."""
    assert isinstance(response, ErrorResponse), f"expected {status} {errcodes}, but the request was accepted: {response}"
    got = (response.transport_response.status, response.status_code)
    assert got[0] == status and got[1] in errcodes, f"expected {status} {errcodes}, got {got}: {response}"
    return response
