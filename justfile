# Shorter ways to what `.ci/run` does.

# List the recipes.
default:
    @just --list

# Everything that CI runs.
ci:
    bash .ci/run

# Pure tests only: no namespaces, no Debian packages.
quick:
    cargo test -p vipd-core
    cargo test -p vipd --lib

# The simulation with this many schedules.
sim schedules="20000":
    SIM_SCHEDULES={{schedules}} cargo test --release -p vipd-core --test sim -- --nocapture

# Full matrices and counts; the last results stand in docs/.
long:
    SIM_SCHEDULES=100000 cargo test --release -p vipd-core --test sim -- --nocapture
    VIPD_LONG=1 cargo test --release --test netns -- --nocapture
    VIPD_LONG=1 cargo test --release --test interop -- --nocapture
    VIPD_LONG=1 cargo test --release --test systemd -- --nocapture
    # A release build cannot stop at its own steps.
    VIPD_LONG=1 cargo test -p vipd-replicate -- --nocapture
    cargo build --release --workspace
    cargo bench

# Feed the decoders with what nobody would send.
fuzz target seconds="60":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# docs/screens.md anew, from a play in namespaces.
screens:
    VIPD_SCREENS=$PWD/docs/screens.md cargo test --test netns -- screens/
