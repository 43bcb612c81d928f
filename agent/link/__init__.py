"""Names the transports; each is one room or file, loaded when a profile asks for it."""

from typing import Final

TRANSPORTS: Final[dict[str, str]] = {
    "mqtt": "agent.link.mqtt:MqttLink",
    "https": "agent.link.https:HttpsLink",
}
"""Name -> a class that is made from (LinkSettings, Clock) and is a `ports.Link`."""
