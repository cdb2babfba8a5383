"""Python functions in containers.

In the caller, ``call.py`` and ``executor.py`` make a `worker.Task`. A starter (``fork.py``,
``spawn.py`` or ``interpreter.py``) makes the `function_container.FunctionContainer` that performs
it, and ``conversation.py`` sends the task and receives the answer; ``outputs.py`` captures or shows
what the function writes. ``kept.py`` is a container for several tasks. ``messages.py`` is the
protocol, and ``strict_json.py`` its JSON from untrusted code.

In the container, ``worker.py`` performs the task. For ``spawn.py``, a process between the two runs
``template.py`` and ``ready.py``. In a copy of a Jupyter kernel, ``front_end.py`` cuts the
connection to the notebook.
"""
