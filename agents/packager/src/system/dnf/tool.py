"""Asks and tells dnf 4 through its own Python interface, in the interpreter that dnf itself runs in.

Started by dnf.rs as `python -I -c THIS WORD ROOT REQUEST`: REQUEST is JSON (`-`: read from the standard input), and so is the
answer on the standard output; a failure is a line `E: ...` on the error output and one of the exit codes below. It decides nothing: what follows from a
wish dnf's solver says, and what is carried out is compared with what was expected, under dnf's own lock.
"""

import glob
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import time

import dnf
import dnf.callback
import dnf.lock
import dnf.rpm
import hawkey
import libdnf.transaction
import rpm

FAILED, BUSY, STALE, UNKNOWN, UNSIGNED, UNREACHABLE = 1, 75, 76, 77, 78, 79


class Refusal(Exception):
    """Why nothing, or not all, was done."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def open_base(root, request):
    """dnf as it is configured at this root: for another root than this machine's by that root's files alone."""
    base = dnf.Base()
    conf = base.conf
    conf.installroot = root
    if root == "/":
        conf.read()
    else:
        conf.config_file_path = root + conf.config_file_path
        if os.path.isfile(conf.config_file_path):
            conf.read(filename=conf.config_file_path)
        conf.reposdir = [root + place for place in conf.reposdir]
    conf.substitutions.update_from_etc(root, varsdir=conf.varsdir)
    conf.releasever = dnf.rpm.detect_releasever(root) or conf.releasever
    for option in ("cachedir", "logdir", "persistdir"):
        conf.prepend_installroot(option)
    conf.exit_on_lock = True
    conf.assumeyes = False
    # What nobody needs any more is not for this change to take away.
    conf.clean_requirements_on_remove = False
    if root == "/":
        base.init_plugins()
        base.pre_configure_plugins()
    if request.get("with_repositories"):
        base.read_all_repos()
    if root == "/":
        base.configure_plugins()
    if request.get("is_offline"):
        for repository in base.repos.iter_enabled():
            repository._repo.setSyncStrategy(dnf.repo.SYNC_ONLY_CACHE)
    return base


def fill(base, request):
    with_repositories = bool(request.get("with_repositories"))
    try:
        base.fill_sack(load_system_repo=True, load_available_repos=with_repositories)
    except dnf.exceptions.RepoError as error:
        raise Refusal(UNREACHABLE, "a repository cannot be read: %s" % error)


def evr(package):
    epoch = "%d:" % package.epoch if package.epoch else ""
    return "%s%s-%s" % (epoch, package.version, package.release)


def is_automatic(base, package):
    return base.history.rpm.get_reason_name(package) in ("dependency", "weak-dependency", "clean")


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def sha256(package):
    """What the repository's metadata say of an archive."""
    kind, value = package.chksum or (None, b"")
    return value.hex() if kind == hawkey.CHKSUM_SHA256 else None


def same(base, package):
    """The archives that repositories have of an installed package."""
    query = base.sack.query().available()
    return query.filter(name=package.name, evr=package.evr, arch=package.arch).run()


def header(path):
    ts = rpm.TransactionSet()
    ts.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    with open(path, "rb") as file:
        return ts.hdrFromFdno(file.fileno())


def cached(base, package):
    """The archive of an installed package in dnf's cache; what it is, its header says."""
    name = "%s-%s-%s.%s.rpm" % (package.name, package.version, package.release, package.arch)
    places = glob.glob(os.path.join(glob.escape(base.conf.cachedir), "*", "packages", name))
    ts = rpm.TransactionSet(base.conf.installroot)
    installed = [it for it in ts.dbMatch("name", package.name) if nevra_of(it) == nevra(package)]
    for place in places:
        try:
            found = header(place)
        except (OSError, rpm.error):
            continue
        if any(found["sha256header"] and found["sha256header"] == it["sha256header"] for it in installed):
            return place
    return None


def nevra(package):
    return (package.name, package.arch, evr(package))


def nevra_of(it):
    epoch = "%d:" % it["epoch"] if it["epoch"] else ""
    return (it["name"], it["arch"], "%s%s-%s" % (epoch, it["version"], it["release"]))


def snapshot(base, request):
    fill(base, request)
    native = [base.conf.basearch, base.conf.arch, "noarch"]
    found = [
        {"name": it.name, "arch": it.arch, "evr": evr(it), "is_automatic": is_automatic(base, it)}
        for it in base.sack.query().installed()
    ]
    return {"native": native, "packages": found}


def named(query, want):
    """The packages that a wish names: by name, or by name and architecture; in any version or in one."""
    name, dot, architecture = want["name"].rpartition(".")
    exact = query.filter(name=want["name"])
    if not exact and dot:
        exact = query.filter(name=name, arch=architecture)
    version = want.get("version")
    if version:
        epoch, colon, rest = version.rpartition(":")
        upstream, dash, release = rest.partition("-")
        exact = exact.filter(version=upstream)
        exact = exact.filter(release=release) if dash else exact
        exact = exact.filter(epoch=int(epoch)) if colon else exact
    return exact


def wish(base, want):
    installed, available = base.sack.query().installed(), base.sack.query().available()
    if want["kind"] in ("remove", "update"):
        found = named(installed, dict(want, version=None))
        if not found:
            raise Refusal(UNKNOWN, "`%s` is not installed" % want["name"])
        if want["kind"] == "remove":
            for package in found:
                base.package_remove(package)
            return
    there = named(installed, want)
    if want.get("version") and there:
        # It is to stay so, whatever else is wanted.
        selector = dnf.selector.Selector(base.sack)
        selector.set(pkg=there.run())
        base._goal.install(select=selector, optional=False)
        return
    found = named(available, want)
    if not found:
        if there:
            return
        raise Refusal(UNKNOWN, "no repository has `%s`%s" % (
            want["name"], " in version %s" % want["version"] if want.get("version") else ""))
    architectures = {package.arch for package in found}
    # A name alone means this machine's own architecture, as dnf has it.
    if "." not in want["name"] or named(available, want).filter(name=want["name"]):
        own = {base.conf.arch, base.conf.basearch, "noarch"} | {it.arch for it in there}
        found = found.filter(arch=sorted(own & architectures) or sorted(architectures))
    selector = dnf.selector.Selector(base.sack)
    selector.set(pkg=found.latest().run() if want.get("version") else found.run())
    if want["kind"] == "update" or there:
        # What is there becomes newer, where that can be.
        base._goal.upgrade(select=selector)
    else:
        base._goal.install(select=selector, optional=False)


def resolved(base, wants):
    """Solves; with packages that go only where it cannot be done without."""
    for erasing in (False, True):
        base.reset(goal=True)
        for want in wants:
            wish(base, want)
        try:
            base.resolve(allow_erasing=erasing)
            return None
        except dnf.exceptions.DepsolveError as error:
            problem = error
    return str(problem).strip()


def movements(base):
    """Every package that comes or goes."""
    for item in base.transaction or ():
        if item.action in dnf.transaction.FORWARD_ACTIONS and item.action != libdnf.transaction.TransactionItemAction_REASON_CHANGE:
            yield item, item.action != libdnf.transaction.TransactionItemAction_REMOVE
        elif item.action in dnf.transaction.BACKWARD_ACTIONS:
            yield item, False


def solve(base, request):
    fill(base, request)
    conflict = resolved(base, request["wants"])
    if conflict:
        return {"conflict": conflict}
    comes, goes = [], []
    for item, is_coming in movements(base):
        (comes if is_coming else goes).append(item.pkg)
    query = base.sack.query().filter(pkg=comes)
    stays = base.sack.query().installed().filter(name=[it.name for it in comes]) if comes else []
    several = [it.name for it in stays if it not in goes]
    return {
        "comes": [{
            "name": it.name, "arch": it.arch, "evr": evr(it), "sha256": sha256(it), "origin": it.repoid,
            "size": it.downloadsize, "license": it.license, "file": os.path.basename(it.location or ""),
            "uses": sorted({one.name for one in query.filter(provides=it.requires)} - {it.name}) if it.requires else [],
            "stands_beside": it.name in several and any(one.arch == it.arch for one in stays if one.name == it.name),
        } for it in comes],
        "goes": [{
            "name": it.name, "arch": it.arch, "evr": evr(it), "is_automatic": is_automatic(base, it),
            "sha256": before(base, it),
        } for it in goes],
    }


def before(base, package):
    listed = [digest for digest in map(sha256, same(base, package)) if digest]
    if listed:
        return listed[0]
    place = cached(base, package)
    return digest_of(place) if place else None


def fetch(base, request):
    """Has dnf get archives, checks their signatures as the repositories want it, and copies them to where they are wanted."""
    fill(base, request)
    wanted, gone, places = [], [], []
    for one in request["packages"]:
        query = base.sack.query().available().filter(name=one["name"], arch=one["arch"])
        fits = [it for it in query if evr(it) == one["evr"] and sha256(it) == one["sha256"]]
        if fits:
            wanted.append(fits[0])
            continue
        installed = base.sack.query().installed().filter(name=one["name"], arch=one["arch"])
        kept = [place for place in (cached(base, it) for it in installed if evr(it) == one["evr"]) if place]
        (places.append(kept[0]) if kept else gone.append(one["name"]))
    try:
        base.download_packages(wanted)
    except dnf.exceptions.DownloadError as error:
        raise Refusal(UNREACHABLE, "archives cannot be fetched: %s" % error)
    for package in wanted:
        result, why = base.package_signature_check(package)
        if result == 1:
            raise Refusal(UNSIGNED, "%s; its key is imported by `rpm --import`, after looking at it" % why)
        if result:
            raise Refusal(UNSIGNED, why)
        places.append(package.localPkg())
    for number, place in enumerate(places):
        shutil.copyfile(place, os.path.join(request["into"], "%d.rpm" % number))
    return {"gone": gone}


def lock(base, seconds):
    """dnf's own lock; what an rpm without dnf does waits for rpm's lock by itself."""
    taken = dnf.lock.build_rpmdb_lock(base.conf.persistdir, True)
    deadline = time.monotonic() + seconds
    while True:
        try:
            taken.__enter__()
            return taken
        except dnf.exceptions.LockError as error:
            if time.monotonic() >= deadline:
                raise Refusal(BUSY, str(error))
            time.sleep(0.05)


def unlock(taken):
    """Unless dnf has done so: after a transaction it takes the lock away for all that its process has of it."""
    try:
        with open(taken.target, encoding="ascii") as file:
            is_own = file.read().strip() == str(os.getpid())
    except OSError:
        is_own = False
    if is_own:
        taken.__exit__()


def wait(base, request):
    unlock(lock(base, request["seconds"]))
    return {}


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        # Whoever ended what a dead process began took it away.
        raise Refusal(STALE, "nobody waits for this any more")


def agree(request):
    """Makes the record that the system was touched, of what was expected, and waits until the device has it (touch.rs)."""
    try:
        os.rename(request["expected"], request["touched"])
    except FileNotFoundError:
        raise Refusal(STALE, "nobody waits for this any more")
    for place in (request["touched"], os.path.dirname(request["touched"])):
        opened = os.open(place, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def change(base, request):
    """Brings exactly these archives and takes exactly these packages away, or does nothing."""
    held = lock(base, request["seconds"])
    try:
        expected = load(request["expected"])
        base.conf.install_weak_deps = False
        if not request["touched"]:
            base.conf.tsflags = ["test"]
        fill(base, {})
        installed = base.sack.query().installed().run()
        goes = [it for it in installed if list(nevra(it)) in expected["goes"]]
        comes = base.add_remote_rpms(expected["comes"])
        for package in comes:
            selector = dnf.selector.Selector(base.sack)
            selector.set(pkg=[package])
            base._goal.install(select=selector, optional=False)
        replaced = {(it.name, it.arch) for it in comes}
        for package in goes:
            if (package.name, package.arch) not in replaced and package.name not in {it.name for it in comes}:
                base.package_remove(package)
        try:
            base.resolve(allow_erasing=True)
        except dnf.exceptions.DepsolveError as error:
            raise Refusal(STALE, "dnf does not find a way: %s" % str(error).strip())
        compare(base, expected)
        for item, is_coming in movements(base):
            if is_coming:
                automatic = list(nevra(item.pkg)) in expected["automatic"]
                item.reason = (libdnf.transaction.TransactionItemReason_DEPENDENCY if automatic
                               else libdnf.transaction.TransactionItemReason_USER)
        if request["touched"]:
            agree(request)
        base.do_transaction(display=Display())
    finally:
        unlock(held)
    return {}


class Display(dnf.callback.TransactionProgress):
    """Passes on what rpm and scripts say."""

    def scriptout(self, messages):
        if messages:
            print(str(messages).rstrip(), flush=True)

    def error(self, message):
        print("E: " + " ".join(str(message).split()), flush=True)


def compare(base, expected):
    would = {(is_coming, nevra(item.pkg)) for item, is_coming in movements(base)}
    meant = {(False, tuple(it)) for it in expected["goes"]} | {(True, tuple(it)) for it in expected["names"]}
    text = lambda some: ", ".join(
        "%s `%s` %s" % ("install" if is_coming else "take away", name, version)
        for is_coming, (name, _, version) in sorted(some))
    if would - meant:
        raise Refusal(STALE, "dnf would also %s" % text(would - meant))
    if meant - would:
        raise Refusal(STALE, "dnf would not %s" % text(meant - would))


def mark(base, request):
    held = lock(base, request["seconds"])
    try:
        fill(base, {})
        marks = load(request["expected"])["marks"]
        agree(request)
        for name, architecture, automatic in marks:
            reason = (libdnf.transaction.TransactionItemReason_DEPENDENCY if automatic
                      else libdnf.transaction.TransactionItemReason_USER)
            for package in base.sack.query().installed().filter(name=name, arch=architecture):
                base.history.set_reason(package, reason)
        last = base.history.last()
        version = base._ts.dbCookie() if last is None else last.end_rpmdb_version
        base.history.beg(version, [], [])
        base.history.end(version)
    finally:
        unlock(held)
    return {}


# Files of an archive that are on the disk in any case, or are a person's.
NOT_ITS_OWN = rpm.RPMFILE_CONFIG | rpm.RPMFILE_GHOST


# As OpenPGP numbers them; md5 where a package says nothing.
DIGESTS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}


def files(found):
    return [it for it in rpm.files(found) if stat.S_ISREG(it.mode) and not it.fflags & NOT_ITS_OWN]


def stands(root, found, file):
    """Whether a file is on the disk as its package has it."""
    path = root + file.name
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        algorithm = DIGESTS.get(found["filedigestalgo"] or 1)
        if algorithm is None or not file.digest:
            return os.lstat(path).st_size == file.size
        digest = hashlib.new(algorithm)
        with open(path, "rb") as opened:
            for piece in iter(lambda: opened.read(1 << 20), b""):
                digest.update(piece)
        return digest.hexdigest() == file.digest
    except OSError:
        return False


def torn(base, request):
    """Which steps rpm died in the middle of, and by which archive they become whole: what comes, where some of it is there, or
    else what was. What it was unpacking has names of its own beside the files; they go. A person's edit is no sign of rpm."""
    root = base.conf.installroot.rstrip("/")
    ts = rpm.TransactionSet(base.conf.installroot)
    ts.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    found = {}
    for step in request["steps"]:
        installed = [it for it in ts.dbMatch("name", step["name"]) if it["arch"] in step["arches"]]
        own = [it for it in installed if nevra_of(it)[2] == step["before"]]
        other = [it for it in installed if nevra_of(it)[2] == step["after"]]
        headers = [header(path) for path in step["archives"]]
        left = {path for one in headers for path in remains(root, one)}
        for path in left:
            os.unlink(path)
        if left or (own and other):
            found[step["name"]] = "after"
            continue
        had = [(it, file) for it in own for file in files(it) if file.state == rpm.RPMFILE_STATE_NORMAL]
        if own and not step["after"]:
            if any(not os.path.lexists(root + file.name) for it, file in had):
                found[step["name"]] = "before"
            continue
        if other:
            continue
        known = {file.name for it in own for file in rpm.files(it)}
        differ = {file.name for it, file in had if not stands(root, it, file)}
        comes = [(it, file) for it in headers if nevra_of(it)[2] == step["after"] for file in files(it)]
        here = [file.name for it, file in comes if file.name not in known - differ and stands(root, it, file)]
        if any(name not in known and not ts.dbMatch("basenames", name) for name in here):
            found[step["name"]] = "after"
        elif any(name in differ for name in here):
            found[step["name"]] = "before"
    return {"torn": found}


def remains(root, one):
    """What rpm unpacks has a number after its name until all of it is there."""
    for file in rpm.files(one):
        path = root + file.name
        for left in glob.glob(glob.escape(path) + ";????????"):
            if re.fullmatch("[0-9a-f]{8}", left[-8:]) and not os.path.isdir(left):
                yield left


def describe(base, request):
    fill(base, request)
    query = base.sack.query().available()
    own = named(query, dict(request["want"], version=None))
    found = named(query, request["want"])
    if not found:
        raise Refusal(UNKNOWN, "no repository has `%s`" % request["want"]["name"])
    one, latest = max(found), max(own)
    return {
        "evr": evr(one), "latest": evr(latest), "count": len({evr(it) for it in own}), "license": one.license,
        "sha256": sha256(one), "requires": sorted(map(str, one.requires)),
    }


WORDS = {
    "snapshot": snapshot, "solve": solve, "fetch": fetch, "wait": wait, "change": change, "mark": mark, "torn": torn,
    "describe": describe,
}


def main():
    word, root, request = sys.argv[1:4]
    try:
        request = json.loads(sys.stdin.read() if request == "-" else request)
        base = open_base(root, request)
        try:
            answer = WORDS[word](base, request)
        finally:
            base.close()
    except Refusal as refusal:
        code, text = refusal.code, str(refusal)
    except Exception as error:
        code, text = FAILED, "%s: %s" % (type(error).__name__, error)
    else:
        print(json.dumps(answer))
        return 0
    print("E: " + " ".join(text.split()), file=sys.stderr)
    return code


sys.exit(main())
