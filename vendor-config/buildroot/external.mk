include $(sort $(wildcard $(BR2_EXTERNAL_RNSNET_PATH)/package/*/*.mk))
