"""From a fresh interpreter to the verified bytes of a small object, as a Lambda's first call would be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.job import BUCKET, children_cpu
from benchmarks.measure import ROOT, child_environment

__all__ = ["SCRIPTS", "run_script"]

_HEAD = "import json, sys\njob = json.loads(sys.argv[1])\n"
_CHECK = "import hashlib\nassert hashlib.sha256(data).hexdigest() == job['sha256']\n"
_RESOLVE = (
    "import stepout\nstepout.resolve_artifact(job['pointer'], allow=['s3://' + job['bucket'] + '/']).read_bytes()\n"
)
_BY_HAND = """
import hashlib, hmac, os, socket, time
host = job['endpoint'].partition('://')[2]
stamp = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())
scope = stamp[:8] + '/us-east-1/s3/aws4_request'
path, empty = '/' + job['bucket'] + '/' + job['key'], hashlib.sha256().hexdigest()
names = 'host;x-amz-content-sha256;x-amz-date'
heads = 'host:' + host + '\\nx-amz-content-sha256:' + empty + '\\nx-amz-date:' + stamp + '\\n'
asked = '\\n'.join(['GET', path, '', heads, names, empty])
text = '\\n'.join(['AWS4-HMAC-SHA256', stamp, scope, hashlib.sha256(asked.encode()).hexdigest()])
key = ('AWS4' + os.environ['AWS_SECRET_ACCESS_KEY']).encode()
for part in scope.split('/'):
    key = hmac.digest(key, part.encode(), 'sha256')
signature = hmac.new(key, text.encode(), 'sha256').hexdigest()
credential = 'Credential=' + os.environ['AWS_ACCESS_KEY_ID'] + '/' + scope
line = 'authorization:AWS4-HMAC-SHA256 ' + credential + ', SignedHeaders=' + names + ', Signature=' + signature
sock = socket.create_connection(host.split(':'))
sock.sendall(('GET ' + path + ' HTTP/1.1\\n' + heads + line + '\\n\\n').replace('\\n', '\\r\\n').encode())
file = sock.makefile('rb')
size = 0
while (found := file.readline()) != b'\\r\\n':
    if found.lower().startswith(b'content-length:'):
        size = int(found[15:])
data = file.read(size)
"""

SCRIPTS = {
    "bare interpreter": "",
    "boto3": _HEAD + "import boto3\n"
    "client = boto3.client('s3', endpoint_url=job['endpoint'])\n"
    "data = client.get_object(Bucket=job['bucket'], Key=job['key'])['Body'].read()\n" + _CHECK,
    "botocore alone": _HEAD + "import botocore.session\n"
    "client = botocore.session.get_session().create_client('s3', endpoint_url=job['endpoint'])\n"
    "data = client.get_object(Bucket=job['bucket'], Key=job['key'])['Body'].read()\n" + _CHECK,
    "obstore": _HEAD + "import os, obstore\n"
    "from obstore.store import S3Store\n"
    "store = S3Store(job['bucket'], endpoint=job['endpoint'], region='us-east-1',\n"
    "    client_options={'allow_http': True}, access_key_id=os.environ['AWS_ACCESS_KEY_ID'],\n"
    "    secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY'])\n"
    "data = memoryview(obstore.get(store, job['key']).bytes())\n" + _CHECK,
    "s3fs": _HEAD + "import s3fs\n"
    "filesystem = s3fs.S3FileSystem(client_kwargs={'endpoint_url': job['endpoint']})\n"
    "data = filesystem.cat_file(job['bucket'] + '/' + job['key'])\n" + _CHECK,
    "bare sockets": _HEAD + _BY_HAND + _CHECK,
    "import stepout": "import stepout\n",
    "stepout": _HEAD + _RESOLVE,
    "stepout, no extra": _HEAD + "sys.modules.update(awscrt=None, obstore=None)\n" + _RESOLVE,
}


def run_script(label: str, endpoint: str, size: int, sha256: str) -> dict[str, Any]:
    """Run one of them from start to exit; wall and CPU seconds of the whole process."""
    pointer = {
        "stepout": "pointer/1",
        "bucket": BUCKET,
        "key": f"cold/{size}",
        "size": size,
        "checksum": {"sha256": sha256},
    }
    pointer["mediaType"] = "application/octet-stream"
    job = {"endpoint": endpoint, "bucket": BUCKET, "key": f"cold/{size}", "sha256": sha256, "pointer": pointer}
    environment = {**child_environment(None), "AWS_ENDPOINT_URL": endpoint}
    before, start = children_cpu(), time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", SCRIPTS[label], json.dumps(job)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, cpu = time.perf_counter() - start, children_cpu() - before
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["no message"]
        kind = "skipped" if "ModuleNotFoundError" in last[0] else "failed"
        return {kind: last[0], "log": run.stderr[-2000:]}
    return {"wall": wall, "cpu": cpu, "memory": None}
