SUMMARY = "Network for containers, without root"
DESCRIPTION = "Connects a container's network namespace to the host by a TAP device, a TCP/IP \
stack in user space and ordinary sockets."
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=5d45ba5b6e012eef5bc0daecaf685693 \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

# Where the source is: set it in local.conf, as README.md says.
RNSNET_URI ?= ""
SRC_URI = "${RNSNET_URI}"
SRCREV ?= "${AUTOREV}"
PV = "0.1.0+git"

inherit cargo cargo-update-recipe-crates

# Made by: bitbake -c update_crates rnsnet
include ${BPN}-crates.inc

# The recipe strips, and keeps the symbols in its -dbg package.
export CARGO_PROFILE_RELEASE_STRIP = "none"

do_install:append() {
    install -D -m 0644 ${S}/vendor-config/sysctl/50-rnsnet.conf \
        ${D}${sysconfdir}/sysctl.d/50-rnsnet.conf
    install -D -m 0644 ${S}/vendor-config/modules-load/rnsnet.conf \
        ${D}${sysconfdir}/modules-load.d/rnsnet.conf
    install -D -m 0644 ${S}/vendor-config/udev/60-rnsnet-tun.rules \
        ${D}${nonarch_base_libdir}/udev/rules.d/60-rnsnet-tun.rules
}

RRECOMMENDS:${PN} += "kernel-module-tun"
