#!/usr/bin/python3
"""Writes one OCI archive (image-spec 1.0) for several machines: oci.py ARCHIVE VERSION TIME PLATFORM=PROGRAM...

PLATFORM is as image tools write it: linux/arm64, linux/arm/v7. An image has one layer with one file,
/usr/bin/rnsnet, and is what vendor-config/oci/Containerfile builds. The same programs give the same
bytes: TIME, in seconds since 1970, is that of everything inside.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from datetime import datetime, timezone
from pathlib import Path

MEDIA = "application/vnd.oci.image."


def tar(files, time):
    """A tar archive of (name, bytes, mode), with the folders above them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        seen = set()
        for name, content, mode in files:
            for folder in [str(path) for path in reversed(Path(name).parents)][1:]:
                if folder not in seen:
                    seen.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, time
                    archive.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, time
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Layout:
    """The files of an image layout."""

    def __init__(self):
        self.blobs = {}

    def add(self, content, media, **more):
        """Keeps a blob and returns its descriptor."""
        if not isinstance(content, bytes):
            content = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": MEDIA + media, "digest": f"sha256:{digest}", "size": len(content), **more}

    def image(self, platform, program, version, time):
        """An image with one program."""
        names = dict(zip(("os", "architecture", "variant"), platform.split("/")))
        layer = tar([("usr/bin/rnsnet", program, 0o755)], time)
        created = datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        config = self.add(
            {
                **names,
                "created": created,
                "config": {
                    "Entrypoint": ["/usr/bin/rnsnet"],
                    "Labels": {
                        "org.opencontainers.image.title": "rnsnet",
                        "org.opencontainers.image.version": version,
                        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                    },
                },
                "rootfs": {
                    "type": "layers",
                    "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()],
                },
                "history": [{"created": created, "created_by": "COPY rnsnet /usr/bin/rnsnet"}],
            },
            "config.v1+json",
        )
        packed = self.add(gzip.compress(layer, 9, mtime=0), "layer.v1.tar+gzip")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA + "manifest.v1+json",
            "config": config,
            "layers": [packed],
        }
        return self.add(manifest, "manifest.v1+json", platform=names)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    archive, version, time, *pairs = sys.argv[1:]
    layout = Layout()
    images = []
    for pair in pairs:
        platform, program = pair.split("=", 1)
        images.append(layout.image(platform, Path(program).read_bytes(), version, int(time)))
    index = {"schemaVersion": 2, "mediaType": MEDIA + "index.v1+json", "manifests": images}
    name = {"org.opencontainers.image.ref.name": f"rnsnet:{version}"}
    whole = layout.add(index, "index.v1+json", annotations=name)
    files = [(f"blobs/sha256/{digest}", blob, 0o644) for digest, blob in sorted(layout.blobs.items())]
    top = {"schemaVersion": 2, "manifests": [whole]}
    files.append(("index.json", json.dumps(top, sort_keys=True).encode(), 0o644))
    files.append(("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644))
    Path(archive).write_bytes(tar(files, int(time)))


main()
