"""What people learn of each other's servers before they share a room."""

from common.waiting import same, until

from lib.person import Refused, path_of
from lib.world import Side, both_ways, refused


@both_ways("a profile is found, and that there is none")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    for field, value in (("displayname", f"{host} in a hat"), ("avatar_url", f"mxc://{host.home.name}/hat")):
        await host.put(path_of("profile", host.id, field), {field: value})
    said = await guest.get(path_of("profile", host.id))
    same((said["displayname"], said["avatar_url"]), (f"{host} in a hat", f"mxc://{host.home.name}/hat"))
    same(await guest.get(path_of("profile", host.id, "displayname")), {"displayname": f"{host} in a hat"})
    await refused(guest.get(path_of("profile", f"@nobody:{host.home.name}")), 404, "M_NOT_FOUND")


@both_ways("an alias leads to its room, and no further once it is gone")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room_id = await host.create(preset="public_chat", room_alias_name="parlour")
    alias = f"#parlour:{host.home.name}"
    found = await guest.get(path_of("directory", "room", alias))
    same((found["room_id"], found["servers"]), (room_id, [host.home.name]))
    await refused(guest.get(path_of("directory", "room", f"#nowhere:{host.home.name}")), 404, "M_NOT_FOUND")
    await host.request("DELETE", path_of("directory", "room", alias))
    await refused(guest.get(path_of("directory", "room", alias)), 404, "M_NOT_FOUND")


@both_ways("the public rooms of a server are listed and searched from the other one")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    names = [f"Listed {n} of {host}" for n in range(3)]
    for name in names:
        await host.create(preset="public_chat", visibility="public", name=name, topic="to be found")
    hidden = f"Hidden of {host}"
    await host.create(preset="public_chat", name=hidden)

    async def listed() -> bool:
        try:
            page = await guest.get(path_of("publicRooms"), server=host.home.name, limit="50")
        except Refused:
            return False
        return set(names) <= {room.get("name") for room in page["chunk"]}

    await until("the rooms are listed", listed)
    query = {"server": host.home.name}
    body = {"filter": {"generic_search_term": f"of {host}"}, "limit": 2}
    first = await guest.post(path_of("publicRooms"), body, query)
    same(len(first["chunk"]), 2)
    rest = await guest.post(path_of("publicRooms"), body | {"since": first["next_batch"]}, query)
    found = {room["name"] for page in (first, rest) for room in page["chunk"]}
    same(found, set(names))
    same({room["topic"] for room in first["chunk"]}, {"to be found"})
