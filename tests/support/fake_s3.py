"""As much of S3 as a store of objects uses: objects, ranges, parts, pages of names, and faults on demand.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import hashlib
import re
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape, unescape

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
PAGE = 3
"""Names on a page, few so that there are several pages."""


class FakeS3:
    """One service with the buckets that were named; `objects` by bucket and key.

    Attributes:
        faults: for each request, the next one is taken: a status to answer, or `cut` for half a body.
        requests: method, path and Authorization of each.
        key: that requests must be signed with; empty: any.
    """

    def __init__(self, *buckets: str) -> None:
        self.buckets = set(buckets)
        self.objects: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str, str]] = []
        self.tokens: list[str | None] = []
        self.key = ""
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def listing(self, bucket: str, prefix: str, after: str) -> bytes:
        names = sorted(key for there, key in self.objects if there == bucket and key.startswith(prefix))
        left = [name for name in names if name > after]
        items = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[bucket, name])}</Size><ETag>e</ETag>"
            "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
            for name in left[:PAGE]
        )
        more = len(left) > PAGE
        token = f"<NextContinuationToken>{escape(left[PAGE - 1])}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{truncated}{token}{items}</ListBucketResult>".encode()


def _handler(s3: FakeS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urllib.parse.urlsplit(self.path)
            bucket, _, key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
            query = {
                name: values[0]
                for name, values in urllib.parse.parse_qs(parts.query, keep_blank_values=True).items()
            }
            signature = self.headers.get("Authorization", "")
            with s3.lock:
                s3.requests.append((self.command, urllib.parse.unquote(parts.path), signature))
                s3.tokens.append(self.headers.get("x-amz-security-token"))
                fault = s3.faults.pop(0) if s3.faults else ""
            if fault.isdecimal():
                self.send(int(fault))
            elif s3.key and f"Credential={s3.key}/" not in signature:
                self.send(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>")
            elif bucket not in s3.buckets:
                self.send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            else:
                with s3.lock:
                    self.perform(bucket, key, query, body, cut=fault == "cut")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def perform(self, bucket: str, key: str, query: dict[str, str], body: bytes, *, cut: bool) -> None:
            where = (bucket, key)
            match self.command:
                case "GET" if "list-type" in query:
                    self.send(
                        200, s3.listing(bucket, query.get("prefix", ""), query.get("continuation-token", ""))
                    )
                case "GET" | "HEAD" if where in s3.objects:
                    self.send_object(s3.objects[where], cut=cut)
                case "PUT" if "partNumber" in query:
                    s3.uploads[query["uploadId"]][int(query["partNumber"])] = body
                    self.send(200)
                case "PUT":
                    s3.objects[where] = body
                    self.send(200)
                case "POST" if "uploads" in query:
                    identity = f"upload-{len(s3.uploads)}"
                    s3.uploads[identity] = {}
                    answer = f"<InitiateMultipartUploadResult><UploadId>{identity}</UploadId>"
                    self.send(200, f"{answer}</InitiateMultipartUploadResult>".encode())
                case "POST" if "uploadId" in query:
                    pieces = s3.uploads.pop(query["uploadId"])
                    s3.objects[where] = b"".join(pieces[number] for number in sorted(pieces))
                    self.send(
                        200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                    )
                case "POST" if "delete" in query:
                    names = [unescape(name) for name in re.findall(r"<Key>(.*?)</Key>", body.decode())]
                    assert ET.fromstring(body) is not None  # noqa: S314 - what our own client sent
                    for name in names:
                        s3.objects.pop((bucket, name), None)
                    gone = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
                    self.send(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
                case "DELETE" if "uploadId" in query:
                    s3.uploads.pop(query["uploadId"], None)
                    self.send(204)
                case "DELETE":
                    s3.objects.pop(where, None)
                    self.send(204)
                case _:
                    self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def send_object(self, data: bytes, *, cut: bool) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            headers = {}
            if found:
                start, end = int(found[1]), int(found[2] or len(data) - 1)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
                data = data[start : end + 1]
            self.send(206 if found else 200, data, headers, cut=cut)

        def send(
            self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, *, cut: bool = False
        ) -> None:
            self.send_response(status)
            tag = hashlib.sha256(data).hexdigest()[:16] if not headers else "range"
            for name, value in {
                "ETag": '"e"',
                "Last-Modified": DATE,
                "X-Tag": tag,
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

    return Handler
