fn main() {
    let dir = std::env::args().nth(1).unwrap();
    for t in ssmv_kernels::Target::ALL {
        for k in ssmv_kernels::gemm::catalogue(t) {
            std::fs::write(format!("{dir}/{}.{t}.ptx", k.name), &k.ptx).unwrap();
            println!(
                "{t} {} grid {:?} block {:?} shared {} {}",
                k.name, k.grid, k.block, k.shared, k.static_shared
            );
        }
    }
}
