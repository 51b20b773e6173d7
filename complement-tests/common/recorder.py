"""What the server really said to one device, before the library makes its own of it."""

from typing import Any

Json = dict[str, Any]


class Recorder:
    def __init__(self) -> None:
        self.asked: list[str | None] = []
        """The `since` of each /sync request, in the order sent."""
        self._answers: dict[str | None, tuple[int, Json]] = {}
        self._received = 0

    def record(self, since: str | None, body: Json) -> None:
        """Keeps an answer under the token it was asked with: one that never reached the client is asked for again."""
        carries_events = any(room.get("timeline", {}).get("events") for room in body.get("rooms", {}).get("join", {}).values())
        assert not (carries_events and body["next_batch"] == since), "a sync with events must move the token on"
        self._answers.pop(since, None)  # so that a repeated answer takes its place at the end
        self._answers[since] = (self._received, body)
        self._received += 1

    def syncs(self, since: int = 0) -> list[Json]:
        """All /sync bodies, oldest first, from a mark on."""
        return [body for number, body in self._answers.values() if number >= since]

    def mark(self) -> int:
        """A mark to hand to the other functions, so that they look only at what comes after it."""
        return self._received

    def parts(self, room_id: str, since: int = 0) -> list[Json]:
        """This room's part of all answers where it has one, with its `section`."""
        return [
            {"section": section, **body["rooms"][section][room_id]}
            for body in self.syncs(since)
            for section in ("invite", "join", "leave", "knock")
            if room_id in body.get("rooms", {}).get(section, {})
        ]

    def timeline(self, room_id: str, since: int = 0) -> list[Json]:
        """Timeline events of this room, in the order in which they arrived."""
        return [event for part in self.parts(room_id, since) for event in part.get("timeline", {}).get("events", [])]

    def ids(self, room_id: str, since: int = 0) -> list[str]:
        return [event["event_id"] for event in self.timeline(room_id, since)]

    def ephemeral(self, room_id: str, kind: str, since: int = 0) -> list[Json]:
        """Contents of the ephemeral events of this type in this room."""
        return [
            event["content"]
            for part in self.parts(room_id, since)
            for event in part.get("ephemeral", {}).get("events", [])
            if event["type"] == kind
        ]

    def receipts(self, room_id: str) -> list[tuple[str, str, str, str | None]]:
        """(event id, type, user id, thread id) of each receipt that arrived for this room."""
        return [
            (event_id, kind, user_id, data.get("thread_id"))
            for content in self.ephemeral(room_id, "m.receipt")
            for event_id, kinds in content.items()
            for kind, users in kinds.items()
            for user_id, data in users.items()
        ]

    def room_account_data(self, room_id: str, kind: str) -> list[Json]:
        """Contents of this room's account data of this type, in order."""
        return [
            event["content"]
            for part in self.parts(room_id)
            for event in part.get("account_data", {}).get("events", [])
            if event["type"] == kind
        ]

    def account_data(self, kind: str, since: int = 0) -> list[Json]:
        """Contents of the global account data of this type, in order."""
        return self._global("account_data", kind, since)

    def to_device(self, kind: str, since: int = 0) -> list[Json]:
        """Contents of the to-device events of this type, in order."""
        return self._global("to_device", kind, since)

    def _global(self, section: str, kind: str, since: int) -> list[Json]:
        return [
            event["content"]
            for body in self.syncs(since)
            for event in body.get(section, {}).get("events", [])
            if event["type"] == kind
        ]

    def presence(self, user_id: str) -> Json | None:
        """The latest presence of this person."""
        seen = [
            event["content"]
            for body in self.syncs()
            for event in body.get("presence", {}).get("events", [])
            if event["sender"] == user_id
        ]
        return seen[-1] if seen else None

    def membership(self, room_id: str, user_id: str) -> str | None:
        """This person's own membership by the answers' sections and, for bans, the events in them."""
        parts = self.parts(room_id)
        if not parts:
            return None
        section = parts[-1]["section"]
        if section == "leave":
            own = [e for e in self.timeline(room_id) if e["type"] == "m.room.member" and e.get("state_key") == user_id]
            if own and own[-1]["content"]["membership"] == "ban":
                return "ban"
        return section

    def repeats(self) -> list[str]:
        """Ids of events that came more than once, though the room wasn't left and joined again in between."""
        repeated = []
        for room_id in {room_id for body in self.syncs() for room_id in body.get("rooms", {}).get("join", {})}:
            seen: set[str] = set()
            for part in self.parts(room_id):
                for event in part.get("timeline", {}).get("events", []):
                    if event["event_id"] in seen:
                        repeated.append(event["event_id"])
                    seen.add(event["event_id"])
                if part["section"] == "leave":
                    seen = set()
        return repeated
