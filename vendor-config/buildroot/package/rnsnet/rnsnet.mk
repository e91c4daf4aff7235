################################################################################
#
# rnsnet
#
################################################################################

RNSNET_VERSION = $(call qstrip,$(BR2_PACKAGE_RNSNET_VERSION))
RNSNET_SITE = $(call qstrip,$(BR2_PACKAGE_RNSNET_SITE))
RNSNET_SITE_METHOD = git
RNSNET_LICENSE = MIT or Apache-2.0
RNSNET_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
# The user says which commit, so there is no hash to compare with.
BR_NO_CHECK_HASH_FOR += $(RNSNET_SOURCE)

define RNSNET_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_TUN)
	$(call KCONFIG_ENABLE_OPT,CONFIG_NAMESPACES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_NET_NS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_USER_NS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_UTS_NS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP_FILTER)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITY)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITY_LANDLOCK)
endef

define RNSNET_INSTALL_SETTINGS
	$(INSTALL) -D -m 0644 $(@D)/vendor-config/sysctl/50-rnsnet.conf \
		$(TARGET_DIR)/etc/sysctl.d/50-rnsnet.conf
	$(INSTALL) -D -m 0644 $(@D)/vendor-config/udev/60-rnsnet-tun.rules \
		$(TARGET_DIR)/etc/udev/rules.d/60-rnsnet-tun.rules
endef
RNSNET_POST_INSTALL_TARGET_HOOKS += RNSNET_INSTALL_SETTINGS

# For systems without udev.
define RNSNET_DEVICES
	/dev/net d 755 0 0 - - - - -
	/dev/net/tun c 666 0 0 10 200 - - -
endef

$(eval $(cargo-package))
