"""A whole cloud in one process, for those who develop with Garbi: a controller, and agents whose machines are fake.

    from garbi.devcloud import DevCloud

    with DevCloud(nodes=3) as cloud:
        machine = cloud.client.machines.add({"image": "any", "type": "fake"})

It needs no root, no daemon and no network but loopback; nothing of it is left afterwards.
"""

from garbi.devcloud.cloud import DevCloud as DevCloud
from garbi.devcloud.node import DevNode as DevNode
