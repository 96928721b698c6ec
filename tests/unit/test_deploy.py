"""What is in deploy/ works as it stands; scripts/check_deploy.sh has its own tools read it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from pydantic import SecretStr

from scim_matrix import __version__
from scim_matrix.app import SHUTDOWN_SECONDS
from scim_matrix.config import SECRETS, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICE: dict[str, Any] = COMPOSE["services"]["scim-matrix"]
# Read over the other.
ON_POSTGRESQL: dict[str, Any] = yaml.safe_load((DEPLOY / "compose-postgresql.yaml").read_text())
QUADLET = (DEPLOY / "scim-matrix.container").read_text()
KUBERNETES: dict[str, list[Any]] = {
    path.stem: list(yaml.safe_load_all(path.read_text()))
    for path in DEPLOY.glob("kubernetes*.yaml")
}
MANIFESTS = KUBERNETES["kubernetes"]


def _pods(file: str = "kubernetes") -> list[Any]:
    """Return what a file says of the pods that it has."""
    found = [m for m in KUBERNETES[file] if m["kind"] in ("Deployment", "Job")]
    return [manifest["spec"]["template"]["spec"] for manifest in found]


def _container(file: str = "kubernetes") -> Any:
    [pod] = _pods(file)
    [container] = pod["containers"]
    return container


def test_images_are_of_this_version() -> None:
    """No file or page says latest or nothing, and each file says what is pulled and when."""
    pods = [_container(file)["image"] for file in KUBERNETES]
    words = [SERVICE["image"], *pods, *re.findall(r"^Image=(.*)$", QUADLET, re.MULTILINE)]
    assert [word.rpartition(":")[2] for word in words] == [__version__] * len(words)
    assert SERVICE["pull_policy"] == "build"
    assert {_container(file)["imagePullPolicy"] for file in KUBERNETES} == {"IfNotPresent"}
    assert "\nPull=never\n" in QUADLET
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        (file.name, *image)
        for file in [*DEPLOY.iterdir(), *pages]
        for image in re.findall(
            r"(localhost|example\.com)/scim-matrix(:[\w.]+|\b)", file.read_text()
        )
    }
    assert {tag for _, _, tag in named} == {f":{__version__}"}, named
    # What is built here is what is run here.
    built = re.findall(r"podman build -t (\S+) \.", (ROOT / "docs" / "installing.md").read_text())
    assert built == [f"localhost/scim-matrix:{__version__}"]
    assert {("installing.md", "localhost"), ("operating.md", "localhost")} <= {n[:2] for n in named}


def test_secrets_do_not_get_into_git_or_the_image() -> None:
    """The files in which compose looks for secrets are left out of commits and of the build."""
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    for secret in [*COMPOSE["secrets"].values(), *ON_POSTGRESQL["secrets"].values()]:
        path = (DEPLOY / secret["file"]).resolve().relative_to(ROOT)
        subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=True)
        assert str(path) in ignored


def test_what_init_writes_does_not_get_into_git_or_the_image() -> None:
    """Whoever sets it up in a copy of the repository commits no token, nor a copy of one."""
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    for name in (".env", *(name.lower() for name in SECRETS)):
        for path in (name, f"{name}.20261101T120000Z"):
            subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=True)
        assert f"{name}*" in ignored


def test_containers_keep_data_in_their_volume_whatever_the_env_file_says() -> None:
    """An env file that was written on the host names a folder that is not in the container."""
    assert SERVICE["environment"]["DATA_DIR"] == "/data"
    assert "data:/data" in SERVICE["volumes"]
    assert ON_POSTGRESQL["services"]["scim-matrix"]["environment"]["DATA_DIR"] == ""
    assert "\nEnvironment=DATA_DIR=/data\n" in QUADLET
    assert "\nVolume=scim-matrix:/data\n" in QUADLET


def test_the_example_takes_the_place_of_nothing_that_init_wrote() -> None:
    """Where a block copies the example, it is the other way than `init`, and is set off as that."""
    page = (ROOT / "docs" / "installing.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    copying = [block for block in blocks if "install" in block and "secret.txt" in block]
    assert len(copying) == 3
    for block in copying:
        either, _, rest = block.partition("\n# or, ")
        by_hand = rest.partition("\n# both\n")[0]
        assert "# either" in either
        assert re.search(r"\binit\b", either)
        assert "secret.txt" in by_hand
        assert "secret.txt" not in block.replace(by_hand, "")
        assert "deploy/scim-matrix.env /etc" not in block.replace(by_hand, "")


def test_a_loopback_homeserver_is_not_meant_from_inside_a_container() -> None:
    """Where the env file's address would be the container itself, another one is said."""
    assert "\nMATRIX_URL=http://127.0.0.1:8008\n" in (DEPLOY / "scim-matrix.env").read_text()
    assert "127.0.0.1" not in SERVICE["environment"]["MATRIX_URL"]
    assert SERVICE["env_file"] == "scim-matrix.env"
    [settings] = [m for m in MANIFESTS if m["metadata"]["name"] == "scim-matrix" and "data" in m]
    assert "127.0.0.1" not in settings["data"]["MATRIX_URL"]
    assert "\nNetwork=host\nEnvironment=LISTEN_HOST=127.0.0.1\n" in QUADLET


def test_the_two_compose_files_are_one_configuration(tmp_path: Path) -> None:
    """The service finds PostgreSQL by the secrets that it is given, and waits for it."""
    over = ON_POSTGRESQL["services"]["scim-matrix"]
    settings = {"DATA_DIR": "/data", **dotenv_values(DEPLOY / "scim-matrix.env")}
    settings |= SERVICE["environment"] | over["environment"]
    given = {name: value or "" for name, value in settings.items()}
    secrets = {f"/run/secrets/{name}": name for name in [*SERVICE["secrets"], *over["secrets"]]}
    told = {"database_url": "postgresql://scim:password@database/scim"}
    for name, value in given.items():
        if name.endswith("_FILE"):
            secret = secrets.pop(value)
            (tmp_path / secret).write_text(told.get(secret, "0123456789abcdef"))
            given[name] = str(tmp_path / secret)
    assert secrets == {}
    place = Settings.load(given).place
    assert isinstance(place, SecretStr)
    assert f"//{_database()['environment']['POSTGRES_USER']}:" in place.get_secret_value()
    host, _, name = place.get_secret_value().partition("@")[2].partition("/")
    assert ON_POSTGRESQL["services"][host] is _database()
    assert name == _database()["environment"]["POSTGRES_DB"]
    assert over["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert set(over["networks"]) & set(_database()["networks"])


def _database() -> Any:
    return ON_POSTGRESQL["services"]["database"]


def test_the_database_is_one_that_the_service_takes() -> None:
    """It sorts by code point and keeps what it has been told when the container goes."""
    assert "--locale=C" in _database()["environment"]["POSTGRES_INITDB_ARGS"]
    [volume] = _database()["volumes"]
    assert volume.partition(":")[0] in ON_POSTGRESQL["volumes"]
    assert int(_database()["image"].rpartition(":")[2]) in range(14, 18)


@pytest.mark.parametrize("file", sorted(KUBERNETES))
def test_pods_may_do_nothing_but_their_work(file: str) -> None:
    """No root, no capability, no account of the cluster, nothing written but where data goes."""
    [pod] = _pods(file)
    container = _container(file)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} <= {"data"}
    # Secrets are files that are mounted, and stand nowhere else.
    for variable in container["env"]:
        if variable["name"].endswith("_FILE"):
            folder = variable["value"].rpartition("/")[0]
            assert folder in {mount["mountPath"] for mount in mounts.values()}
    assert not {v["name"] for v in container["env"]} & set(SECRETS)


def test_the_job_copies_what_the_deployment_has() -> None:
    """The same volume, at the place that it says; once, since a second time is refused."""
    [pod], [deployment] = _pods("kubernetes-migrate-store"), _pods()
    assert [v for v in pod["volumes"] if v["name"] == "data"] == [
        v for v in deployment["volumes"] if v["name"] == "data"
    ]
    container = _container("kubernetes-migrate-store")
    assert container["args"] == ["migrate-store"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment.keys() == {"DATA_DIR", "DATABASE_URL_FILE"}
    [data] = [m for m in container["volumeMounts"] if m["name"] == "data"]
    assert data["mountPath"] == environment["DATA_DIR"]
    [job] = KUBERNETES["kubernetes-migrate-store"]
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")


def _only(kind: str) -> Any:
    """Return the one manifest of a kind of those with two replicas."""
    [found] = [m for m in KUBERNETES["kubernetes-postgresql"] if m["kind"] == kind]
    return found


def test_one_of_two_replicas_answers_always() -> None:
    """While a version is rolled out, a node drained, or one lost; they are on two nodes."""
    deployment, [pod] = _only("Deployment")["spec"], _pods("kubernetes-postgresql")
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    budget = _only("PodDisruptionBudget")["spec"]
    assert budget == {"minAvailable": 1, "selector": {"matchLabels": labels}}
    assert _only("Service")["spec"]["selector"] == deployment["selector"]["matchLabels"] == labels
    anti = pod["affinity"]["podAntiAffinity"]
    [apart] = anti["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": labels},
    }


def test_a_replica_goes_when_nobody_sends_it_anything_any_more() -> None:
    """It answers until then and drains, and is not killed before it has."""
    [pod], container = _pods("kubernetes-postgresql"), _container("kubernetes-postgresql")
    word, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert int(seconds) + 2 * SHUTDOWN_SECONDS < pod["terminationGracePeriodSeconds"]


def test_a_database_that_is_away_takes_replicas_out_and_restarts_none() -> None:
    """Within seconds nothing is sent there; a restart would only delay what comes after."""
    container = _container("kubernetes-postgresql")
    lasts = {}
    for name in ("startup", "readiness", "liveness"):
        probe = container[f"{name}Probe"]
        assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
        lasts[name] = probe["periodSeconds"] * probe["failureThreshold"]
    assert lasts["readiness"] <= 10
    assert lasts["startup"] >= 300
    assert lasts["liveness"] >= 600


def test_replicas_have_one_configuration(tmp_path: Path) -> None:
    """What the manifest and its secrets say is all that is needed, and names a PostgreSQL."""
    container = _container("kubernetes-postgresql")
    [given] = [
        manifest["data"]
        for manifest in KUBERNETES["kubernetes-postgresql"]
        if {"configMapRef": {"name": manifest["metadata"]["name"]}} in container["envFrom"]
        and manifest["kind"] == "ConfigMap"
    ]
    given = {"DATA_DIR": "/data", **given}
    told = {"database_url": "postgresql://scim:password@db/scim", "groups.jsonc": "{}"}
    files = {v["name"]: v["value"] for v in container["env"]}
    for name, path in {**files, "GROUP_MAP_FILE": given["GROUP_MAP_FILE"]}.items():
        file = tmp_path / Path(path).name
        file.write_text(told.get(file.name, "0123456789abcdef"))
        given[name] = str(file)
    assert isinstance(Settings.load(given).place, SecretStr)


def test_who_may_read_the_secrets_is_said_where_they_are_mounted() -> None:
    """Compose keeps owner and mode, so the page names the container's user."""
    user = re.search(r"^USER (\d+)", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert f"install -m 0400 -o {user[1]} secret.txt" in (DEPLOY / "compose.yaml").read_text()
    secrets = re.findall(r"^(?:# )?Secret=\S+?,(\S+)$", QUADLET, re.MULTILINE)
    assert set(secrets) == {f"uid={user[1]},mode=0400"}


def test_unit_and_quadlet_say_how_they_find_postgresql() -> None:
    """Lines to be taken in, of which no secret is missing, and what is to be taken out."""
    unit = (DEPLOY / "scim-matrix.service").read_text()
    assert "\n# LoadCredential=database_url:/etc/scim-matrix/database_url\n" in unit
    assert "with DATA_DIR= in scim-matrix.env" in unit
    [told] = re.findall(r"^# Environment=(DATA_DIR=.*)$", QUADLET, re.MULTILINE)
    variables = dict(word.split("=") for word in told.split())
    assert variables["DATA_DIR"] == ""
    secret = variables["DATABASE_URL_FILE"].removeprefix("/run/secrets/")
    assert f"\n# Secret={secret},uid=" in QUADLET


def test_the_unit_says_how_its_network_is_widened() -> None:
    """Whoever denies says what that looks like and how to allow more."""
    unit = (DEPLOY / "scim-matrix.service").read_text()
    [before] = re.findall(r"((?:^#.*\n)+)IPAddressDeny=any", unit, re.MULTILINE)
    for word in ("Operation not permitted", "systemctl edit", "IPAddressAllow=", "resolv.conf"):
        assert word in before


METRIC = re.compile(r"\bscim_matrix_\w+")
PANELS: list[dict[str, Any]] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_count_what_they_are_called(panel: dict[str, Any]) -> None:
    """Who asks for probes and the console is not counted among SCIM requests, and so on."""
    title, [target] = panel["title"], panel["targets"]
    expression = target["expr"]
    assert ('route=~"/scim/.*"' in expression) == ("SCIM request" in title)
    assert ("rate(" in expression) == ("a second" in title or "95 %" in title)
    assert ("histogram_quantile(0.95" in expression) == ("95 %" in title)
    assert (panel["fieldConfig"]["defaults"]["unit"] == "s") == (title.startswith(("Time", "Age")))
    for state, word in {
        "held": "Held",
        "failing": "Failing",
        "pending": "Still to be done",
    }.items():
        assert (f'state="{state}"' in expression) == title.startswith(word)


def test_panels_have_names_of_their_own() -> None:
    """No two panels are called the same."""
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("file", ["deploy/alerts.yaml", "docs/problems.md", "docs/operating.md"])
def test_whatever_is_told_by_a_metric_has_a_panel(file: str) -> None:
    """Who is woken by an alert, or reads of a metric, sees it on the dashboard."""
    shown = {name for panel in PANELS for name in METRIC.findall(panel["targets"][0]["expr"])}
    assert set(METRIC.findall((ROOT / file).read_text())) - shown == set()
