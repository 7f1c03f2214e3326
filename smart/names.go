package smart

// Attribute ids that mean the same on every maker's drives. Those that change meaning
// between models (173, 177, 202, 231, 233 and other wear counters) are named but never
// judged without a match of the model.
const (
	attrReallocated      = 5
	attrPowerOnHours     = 9
	attrPowerCycles      = 12
	attrEndToEnd         = 184
	attrReported         = 187
	attrCommandTimeout   = 188
	attrAirflow          = 190
	attrTemperature      = 194
	attrPending          = 197
	attrOffline          = 198
	attrLinkCRC          = 199
	nameUnknownAttribute = "Unknown_Attribute"
)

// AttributeName gives the usual name of an attribute id. Makers reuse ids, so a name is
// a help to the eye and no evidence.
func AttributeName(id uint8) string {
	switch id {
	case 1:
		return "Raw_Read_Error_Rate"
	case 2:
		return "Throughput_Performance"
	case 3:
		return "Spin_Up_Time"
	case 4:
		return "Start_Stop_Count"
	case attrReallocated:
		return "Reallocated_Sector_Ct"
	case 7:
		return "Seek_Error_Rate"
	case 8:
		return "Seek_Time_Performance"
	case attrPowerOnHours:
		return "Power_On_Hours"
	case 10:
		return "Spin_Retry_Count"
	case 11:
		return "Calibration_Retry_Count"
	case attrPowerCycles:
		return "Power_Cycle_Count"
	case 170:
		return "Available_Reservd_Space"
	case 171:
		return "Program_Fail_Count"
	case 172:
		return "Erase_Fail_Count"
	case 173:
		return "Avg_Block-Erase_Count"
	case 174:
		return "Unsafe_Shutdown_Count"
	case 177:
		return "Wear_Leveling_Count"
	case 183:
		return "Runtime_Bad_Block"
	case attrEndToEnd:
		return "End-to-End_Error"
	case attrReported:
		return "Reported_Uncorrect"
	case attrCommandTimeout:
		return "Command_Timeout"
	case 189:
		return "High_Fly_Writes"
	case attrAirflow:
		return "Airflow_Temperature_Cel"
	case 191:
		return "G-Sense_Error_Rate"
	case 192:
		return "Power-Off_Retract_Count"
	case 193:
		return "Load_Cycle_Count"
	case attrTemperature:
		return "Temperature_Celsius"
	case 195:
		return "Hardware_ECC_Recovered"
	case 196:
		return "Reallocated_Event_Count"
	case attrPending:
		return "Current_Pending_Sector"
	case attrOffline:
		return "Offline_Uncorrectable"
	case attrLinkCRC:
		return "UDMA_CRC_Error_Count"
	case 200:
		return "Multi_Zone_Error_Rate"
	case 231:
		return "SSD_Life_Left"
	case 232:
		return "Available_Reservd_Space"
	case 233:
		return "Media_Wearout_Indicator"
	case 240:
		return "Head_Flying_Hours"
	case 241:
		return "Total_LBAs_Written"
	case 242:
		return "Total_LBAs_Read"
	}
	return nameUnknownAttribute
}
