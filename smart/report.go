package smart

import "fmt"

// Report is Health in the structure and with the key names of smartctl's JSON output,
// as far as smartctl has the fact. The verdict, its reasons and what was not seen are
// Strata's own and stand under "health". Absent facts are left out, never zero.
type Report struct {
	FormatVersion [2]int         `json:"json_format_version"`
	Device        ReportDevice   `json:"device"`
	Model         string         `json:"model_name,omitempty"`
	Serial        string         `json:"serial_number,omitempty"`
	Firmware      string         `json:"firmware_version,omitempty"`
	PCIVendor     *ReportPCI     `json:"nvme_pci_vendor,omitempty"`
	OUI           *uint32        `json:"nvme_ieee_oui_identifier,omitempty"`
	Total         *Uint128       `json:"nvme_total_capacity,omitempty"`
	Unallocated   *Uint128       `json:"nvme_unallocated_capacity,omitempty"`
	ControllerID  *uint16        `json:"nvme_controller_id,omitempty"`
	NVMeVersion   *ReportVersion `json:"nvme_version,omitempty"`
	Namespaces    *uint32        `json:"nvme_number_of_namespaces,omitempty"`
	WWN           *ReportWWN     `json:"wwn,omitempty"`
	Capacity      *ReportSize    `json:"user_capacity,omitempty"`
	LogicalBlock  uint32         `json:"logical_block_size,omitempty"`
	PhysicalBlock uint32         `json:"physical_block_size,omitempty"`
	Rotation      *uint16        `json:"rotation_rate,omitempty"`
	Support       *ReportSupport `json:"smart_support,omitempty"`
	Power         Power          `json:"power_mode,omitempty"`
	Status        *ReportStatus  `json:"smart_status,omitempty"`
	Data          *ReportData    `json:"ata_smart_data,omitempty"`
	Attributes    *ReportTable   `json:"ata_smart_attributes,omitempty"`
	Thresholds    []ReportLimit  `json:"ata_smart_thresholds,omitempty"`
	NVMeHealth    *ReportNVMe    `json:"nvme_smart_health_information_log,omitempty"`
	NVMeErrors    *ReportErrors  `json:"nvme_error_information_log,omitempty"`
	Flash         *ReportFlash   `json:"flash_life,omitempty"`
	Temperature   *ReportCurrent `json:"temperature,omitempty"`
	PowerCycles   *uint64        `json:"power_cycle_count,omitempty"`
	PowerOn       *ReportHours   `json:"power_on_time,omitempty"`
	Health        *ReportHealth  `json:"health,omitempty"`
}

// The parts of a Report. Their names and units are smartctl's.
type (
	ReportDevice struct {
		Name     string `json:"name,omitempty"`
		Type     string `json:"type,omitempty"`
		Protocol string `json:"protocol,omitempty"`
	}
	ReportPCI struct {
		ID          uint16 `json:"id"`
		SubsystemID uint16 `json:"subsystem_id"`
	}
	ReportVersion struct {
		String string `json:"string"`
		Value  uint32 `json:"value"`
	}
	ReportWWN struct {
		NAA uint8  `json:"naa"`
		OUI uint32 `json:"oui"`
		ID  uint64 `json:"id"`
	}
	ReportSize struct {
		Blocks uint64 `json:"blocks"`
		Bytes  uint64 `json:"bytes"`
	}
	ReportSupport struct {
		Available bool `json:"available"`
		Enabled   bool `json:"enabled"`
	}
	ReportStatus struct {
		Passed bool              `json:"passed"`
		NVMe   *ReportNVMeStatus `json:"nvme,omitempty"`
	}
	ReportNVMeStatus struct {
		Value    Warning `json:"value"`
		Spare    bool    `json:"spare_below_threshold"`
		Temp     bool    `json:"temperature_above_or_below_threshold"`
		Degraded bool    `json:"reliability_degraded"`
		ReadOnly bool    `json:"media_read_only"`
		Backup   bool    `json:"volatile_memory_backup_failed"`
		PMR      bool    `json:"persistent_memory_region_unreliable"`
		Other    uint8   `json:"other"`
	}
	ReportData struct {
		Offline  ReportValue `json:"offline_data_collection"`
		SelfTest ReportValue `json:"self_test"`
	}
	ReportValue struct {
		Status struct {
			Value uint8 `json:"value"`
		} `json:"status"`
	}
	ReportTable struct {
		Revision uint16            `json:"revision"`
		Table    []ReportAttribute `json:"table"`
	}
	ReportAttribute struct {
		ID         uint8       `json:"id"`
		Name       string      `json:"name"`
		Value      uint8       `json:"value"`
		Worst      uint8       `json:"worst"`
		Threshold  *uint8      `json:"thresh,omitempty"`
		WhenFailed string      `json:"when_failed"`
		Flags      ReportFlags `json:"flags"`
		Raw        ReportRaw   `json:"raw"`
	}
	ReportLimit struct {
		ID        uint8 `json:"id"`
		Threshold uint8 `json:"thresh"`
	}
	ReportFlags struct {
		Value       uint16 `json:"value"`
		String      string `json:"string"`
		Prefailure  bool   `json:"prefailure"`
		Online      bool   `json:"updated_online"`
		Performance bool   `json:"performance"`
		ErrorRate   bool   `json:"error_rate"`
		EventCount  bool   `json:"event_count"`
		AutoKeep    bool   `json:"auto_keep"`
	}
	ReportRaw struct {
		Value  uint64 `json:"value"`
		String string `json:"string"`
	}
	ReportNVMe struct {
		CriticalWarning Warning `json:"critical_warning"`
		Temperature     *int    `json:"temperature,omitempty"`
		Spare           uint8   `json:"available_spare"`
		SpareThreshold  uint8   `json:"available_spare_threshold"`
		Used            uint8   `json:"percentage_used"`
		UnitsRead       Uint128 `json:"data_units_read"`
		UnitsWritten    Uint128 `json:"data_units_written"`
		HostReads       Uint128 `json:"host_reads"`
		HostWrites      Uint128 `json:"host_writes"`
		BusyTime        Uint128 `json:"controller_busy_time"`
		PowerCycles     Uint128 `json:"power_cycles"`
		PowerOnHours    Uint128 `json:"power_on_hours"`
		UnsafeShutdowns Uint128 `json:"unsafe_shutdowns"`
		MediaErrors     Uint128 `json:"media_errors"`
		ErrorEntries    Uint128 `json:"num_err_log_entries"`
		WarningTime     uint32  `json:"warning_temp_time"`
		CriticalTime    uint32  `json:"critical_comp_time"`
		Sensors         []int   `json:"temperature_sensors,omitempty"`
	}
	ReportErrors struct {
		Read  int               `json:"read"`
		Table []ReportNVMeError `json:"table"`
	}
	ReportNVMeError struct {
		Count   uint64 `json:"error_count"`
		Queue   uint16 `json:"submission_queue_id"`
		Command uint16 `json:"command_id"`
		Status  struct {
			Value uint16 `json:"value"`
			Media bool   `json:"media_error"`
		} `json:"status_field"`
		LBA struct {
			Value uint64 `json:"value"`
		} `json:"lba"`
		Namespace uint32 `json:"nsid"`
	}
	ReportFlash struct {
		A      LifeBand `json:"life_time_estimation_a"`
		B      LifeBand `json:"life_time_estimation_b"`
		PreEOL PreEOL   `json:"pre_eol_info"`
		Used   *int     `json:"percentage_used,omitempty"`
	}
	ReportCurrent struct {
		Current int `json:"current"`
	}
	ReportHours struct {
		Hours uint64 `json:"hours"`
	}
	ReportHealth struct {
		Verdict Verdict  `json:"verdict"`
		Reasons []Reason `json:"reasons,omitempty"`
		Unseen  []Reason `json:"unseen,omitempty"`
	}
)

// Report gives h in smartctl's structure.
func (h *Health) Report() Report {
	r := Report{
		FormatVersion: [2]int{1, 0},
		Device:        ReportDevice{Name: h.Device.Path, Protocol: string(h.Device.Protocol)},
		Model:         h.Model, Serial: h.Serial, Firmware: h.Firmware, Power: h.Power,
		Health: &ReportHealth{h.Verdict, h.Reasons, h.Unseen},
	}
	switch h.Device.Protocol {
	case ProtocolATA:
		r.Device.Type = "sat"
	case ProtocolNVMe:
		r.Device.Type = "nvme"
	case ProtocolSCSI:
		r.Device.Type = "scsi"
	}
	if t, ok := h.Temperature(); ok {
		r.Temperature = &ReportCurrent{t}
	}
	if n, ok := h.PowerCycles(); ok {
		r.PowerCycles = &n
	}
	if n, ok := h.PowerOnHours(); ok {
		r.PowerOn = &ReportHours{n}
	}
	if h.Device.Sectors != 0 && h.Identify == nil {
		r.Capacity = &ReportSize{h.Device.Sectors, h.Device.Sectors * 512}
	}
	h.reportATA(&r)
	h.reportNVMe(&r)
	if f := h.Flash; f != nil {
		r.Flash = &ReportFlash{A: f.A, B: f.B, PreEOL: f.PreEOL}
		if used, ok := f.Used(); ok {
			r.Flash.Used = &used
		}
	}
	return r
}

func (h *Health) reportATA(r *Report) {
	if d := h.Identify; d != nil {
		r.Capacity = &ReportSize{d.Sectors, d.Bytes()}
		r.LogicalBlock, r.PhysicalBlock = d.LogicalSector, d.PhysicalSector
		if d.Rotation != 0 {
			rpm := d.Rotation
			if d.SolidState() {
				rpm = 0
			}
			r.Rotation = &rpm
		}
		if d.WWN != 0 {
			r.WWN = &ReportWWN{uint8(d.WWN >> 60), uint32(d.WWN >> 36 & 0xffffff), d.WWN & (1<<36 - 1)}
		}
		r.Support = &ReportSupport{d.SMARTSupported, d.SMARTEnabled}
	}
	if failing, ok := h.Prefail(); ok {
		r.Status = &ReportStatus{Passed: !failing}
	}
	if h.Data == nil {
		return
	}
	r.Data = &ReportData{}
	r.Data.Offline.Status.Value, r.Data.SelfTest.Status.Value = h.Data.OfflineStatus, h.Data.SelfTestStatus
	r.Attributes = &ReportTable{Revision: h.Data.Revision, Table: make([]ReportAttribute, 0, len(h.Data.Attributes))}
	for _, a := range h.Data.Attributes {
		f := a.Flags
		out := ReportAttribute{
			ID: a.ID, Name: AttributeName(a.ID), Value: a.Value, Worst: a.Worst,
			Flags: ReportFlags{
				uint16(f), f.String(), f&FlagPrefailure != 0, f&FlagOnline != 0, f&FlagPerformance != 0,
				f&FlagErrorRate != 0, f&FlagEventCount != 0, f&FlagAutoKeep != 0,
			},
			Raw: ReportRaw{a.Raw(), fmt.Sprint(a.Raw())},
		}
		if a.HasThreshold {
			out.Threshold = &a.Threshold
		}
		switch {
		case a.FailedNow():
			out.WhenFailed = "now"
		case a.FailedPast():
			out.WhenFailed = "past"
		}
		r.Attributes.Table = append(r.Attributes.Table, out)
	}
}

func (h *Health) reportNVMe(r *Report) {
	if d := h.NVMeID; d != nil {
		r.PCIVendor = &ReportPCI{d.VendorID, d.SubsystemID}
		r.OUI, r.ControllerID, r.Namespaces = &d.OUI, &d.ControllerID, &d.Namespaces
		r.Total, r.Unallocated = &d.Total, &d.Unallocated
		v := ReportVersion{"<1.2", d.Version}
		if d.Version != 0 {
			v.String = fmt.Sprintf("%d.%d", d.Version>>16, d.Version>>8&0xff)
			if p := d.Version & 0xff; p != 0 {
				v.String += fmt.Sprintf(".%d", p)
			}
		}
		r.NVMeVersion = &v
	}
	if h.NVMeErrors != nil {
		r.NVMeErrors = &ReportErrors{Read: len(h.NVMeErrors)}
		for _, e := range h.NVMeErrors {
			x := ReportNVMeError{Count: e.Count, Queue: e.Queue, Command: e.Command, Namespace: e.Namespace}
			x.Status.Value, x.Status.Media, x.LBA.Value = e.Status, e.Device, e.LBA
			r.NVMeErrors.Table = append(r.NVMeErrors.Table, x)
		}
	}
	n := h.NVMe
	if n == nil {
		return
	}
	r.Support = &ReportSupport{true, true}
	w := n.Warning
	r.Status = &ReportStatus{Passed: w == 0, NVMe: &ReportNVMeStatus{
		w, w&WarnSpare != 0, w&WarnTemperature != 0, w&WarnDegraded != 0, w&WarnReadOnly != 0,
		w&WarnBackup != 0, w&WarnPMR != 0, uint8(w & warnReserved),
	}}
	r.NVMeHealth = &ReportNVMe{
		CriticalWarning: w, Spare: n.Spare, SpareThreshold: n.SpareThreshold, Used: n.Used,
		UnitsRead: n.UnitsRead, UnitsWritten: n.UnitsWritten, HostReads: n.HostReads, HostWrites: n.HostWrites,
		BusyTime: n.BusyMinutes, PowerCycles: n.PowerCycles, PowerOnHours: n.PowerOnHours,
		UnsafeShutdowns: n.UnsafeShutdowns, MediaErrors: n.MediaErrors, ErrorEntries: n.ErrorEntries,
		WarningTime: n.WarningMinutes, CriticalTime: n.CriticalMinutes,
	}
	if n.TemperatureKnown {
		r.NVMeHealth.Temperature = &n.Temperature
	}
	for i, ok := range n.SensorPresent {
		if ok {
			r.NVMeHealth.Sensors = append(r.NVMeHealth.Sensors, n.Sensors[i])
		}
	}
}
