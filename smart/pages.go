package smart

// Pages are raw pages of one drive, as a tool saved them; nil ones are not there.
type Pages struct {
	Identify, Data, Thresholds         []byte // ATA, 512 bytes each
	NVMeIdentify, NVMeHealth, NVMeErrs []byte // 4096, 512, n×64 bytes
}

// Decode reads all the pages that are there; a single bad one refuses the whole.
func (p Pages) Decode() (Report, error) {
	var h Health
	var limits *Thresholds
	steps := [...]struct {
		page []byte
		read func([]byte) error
	}{
		{p.Identify, func(b []byte) error {
			d, err := DecodeIdentify(b)
			h.Device.Protocol, h.Identify = ProtocolATA, &d
			h.Model, h.Serial, h.Firmware = d.Model, d.Serial, d.Firmware
			return err
		}},
		{p.Data, func(b []byte) error {
			d, err := DecodeData(b)
			h.Device.Protocol, h.Data = ProtocolATA, &d
			return err
		}},
		{p.Thresholds, func(b []byte) error {
			t, err := DecodeThresholds(b)
			h.Device.Protocol, limits = ProtocolATA, &t
			return err
		}},
		{p.NVMeIdentify, func(b []byte) error {
			d, err := DecodeNVMeIdentify(b)
			h.Device.Protocol, h.NVMeID = ProtocolNVMe, &d
			h.Model, h.Serial, h.Firmware = d.Model, d.Serial, d.Firmware
			return err
		}},
		{p.NVMeHealth, func(b []byte) error {
			d, err := DecodeNVMeHealth(b)
			h.Device.Protocol, h.NVMe = ProtocolNVMe, &d
			return err
		}},
		{p.NVMeErrs, func(b []byte) (err error) {
			h.Device.Protocol = ProtocolNVMe
			h.NVMeErrors, err = DecodeNVMeErrors(b)
			return err
		}},
	}
	for _, s := range steps {
		if s.page == nil {
			continue
		}
		if err := s.read(s.page); err != nil {
			return Report{}, err
		}
	}
	if h.Data != nil && limits != nil {
		limits.Apply(h.Data)
	}
	h.Judge()
	r := h.Report()
	if h.Data == nil && limits != nil {
		for id := range 256 {
			if t, ok := limits.Get(uint8(id)); ok {
				r.Thresholds = append(r.Thresholds, ReportLimit{uint8(id), t})
			}
		}
	}
	return r, nil
}
