"""The smoke part of the suite, inside containers that other programs made: ``make test-nested``.

Each module but `environment`, `machine` and `inside` describes the containers of one program, and
declares what cannot work there. `inside` runs in each of them and compares.
"""
