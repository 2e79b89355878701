"""The networks: backbones (X), heads (f_att, f_conf, f_sr) and the models that join them (equations)."""
