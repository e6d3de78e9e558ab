# spf-milter in a container: docs/packages.md, Container. The versions of Rust and of Debian go together.
FROM rust:1-slim-bookworm AS build
WORKDIR /usr/src/spf-milter
COPY . .
RUN cargo build --locked --profile dist --bin spf-milter

FROM debian:bookworm-slim
COPY --from=build /usr/src/spf-milter/target/dist/spf-milter /usr/sbin/spf-milter
COPY packaging/container.conf /etc/spf-milter.conf
# No user of the image: the milter needs no name, no files but these two, and no rights.
USER 65532:65532
EXPOSE 8890
# As in etc/spf-milter.service.
ENV GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072:glibc.malloc.tcache_count=127
HEALTHCHECK --interval=30s --timeout=10s CMD ["/usr/sbin/spf-milter", "status", "--health"]
ENTRYPOINT ["/usr/sbin/spf-milter"]
