package bpf
import ("testing";"github.com/cilium/ebpf";"strings";"time")
func TestZZ(t *testing.T){
 spec,_:=loadStrata()
 for n:=range spec.Programs { s2:=spec.Copy(); for k:=range s2.Programs{ if k!=n {delete(s2.Programs,k)}}
 at:=time.Now()
 c,err:=ebpf.NewCollectionWithOptions(s2,ebpf.CollectionOptions{Programs:ebpf.ProgramOptions{LogLevel:ebpf.LogLevelStats}})
 if err!=nil{t.Log(err);continue}
 l:=strings.Split(strings.TrimSpace(c.Programs[n].VerifierLog),"\n")
 t.Log(n,time.Since(at),l); c.Close()}
}
