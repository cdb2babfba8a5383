"""Wrong uses of the public API: a type checker refuses each marked line, and no other line."""

import minidocker
from minidocker import Container, Popen, Spec

spec = Spec()


def length(text: str) -> int:
    return len(text)


class Lab:
    @minidocker.isolated
    def grow(self, number: int) -> int:
        return number + 1

    @minidocker.isolated(hostname="lab")
    def shrink(self, number: int) -> int:
        return number - 1


minidocker.run(["true"], hostnme="box")  # wrong
minidocker.run(["true"], hostname=1)  # wrong
minidocker.run(["true"], init="yes")  # wrong
minidocker.run(["true"], profile="trusted")  # wrong
minidocker.run(["true"], network="bridge")  # wrong
minidocker.run(["true"], mounts=["/srv"])  # wrong
minidocker.run(["cat"], input=1)  # wrong
minidocker.run(["true"], timeout="1")  # wrong
minidocker.run(["yes"], stdout=-1, output_limit="1m")  # wrong
minidocker.run(["true"], preexec_fn=print)  # wrong
minidocker.run(1)  # wrong
minidocker.run(["true"], text=True).stdout.decode()  # wrong
minidocker.run(["true"]).stdout.encode()  # wrong
minidocker.run(["true"], _timeout=1.0)  # wrong
minidocker.run(["true"], spec={})  # wrong
Popen(["true"], hostnme="box")  # wrong
Popen(["true"], _terminal=True)  # wrong
Popen(["true"], user=1.5)  # wrong
Spec(hostnme="box")  # wrong
Container(hostnme="box")  # wrong
Container(cwd="/")  # wrong
Container().run(["true"], hostname="box")  # wrong
Container().popen(["true"], rootfs="/")  # wrong
Container().call(length, 3)  # wrong
minidocker.call(len, 3)  # wrong
minidocker.call(length)  # wrong
minidocker.call(length, "text", double=True)  # wrong
minidocker.call(length, "text").upper()  # wrong
minidocker.isolated(hostnme="box")  # wrong
minidocker.isolated(method="thread")  # wrong
minidocker.isolated(length)(3)  # wrong
minidocker.isolated(hostname="box")(length)(3)  # wrong
Lab().grow("two")  # wrong
Lab().grow()  # wrong
Lab().grow.run(3, 4)  # wrong
Lab().shrink(amount=1)  # wrong
Lab.grow(3)  # wrong
minidocker.ContainerExecutor(hostnme="box")  # wrong
minidocker.ContainerExecutor().submit(length, 3)  # wrong
minidocker.explain(["true"], hostnme="box")  # wrong
minidocker.explain(["true"], _enter=1)  # wrong


async def commands() -> None:
    await minidocker.aio.run(["true"], hostnme="box")  # wrong
    (await minidocker.aio.run(["true"])).stdout.encode()  # wrong
    await minidocker.aio.create_subprocess_exec("true", text=True)  # wrong
    await minidocker.aio.create_subprocess_exec("true", hostnme="box")  # wrong
    await minidocker.aio.create_subprocess_shell("true", hostnme="box")  # wrong


minidocker.call(length, 3, spec=spec)
