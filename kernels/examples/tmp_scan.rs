//! x
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let only = std::env::args().nth(2).unwrap_or_default();
    for t in ssmv_kernels::Target::ALL {
        for k in ssmv_kernels::selective_scan::catalogue(t) {
            if k.name.contains(&only) {
            std::fs::write(format!("{dir}/{}.{t}.ptx", k.name), &k.ptx).unwrap();
            }
        }
    }
}
