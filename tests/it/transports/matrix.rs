//! One suite over all pairs; a failure carries its pair in the test's name.

macro_rules! pairs {
    ($($listener:ident: $on:ident;)*) => {
        $(mod $listener {
            use crate::{lab::Transport, transports::suite::run};

            pairs!(@upstreams $on; udp: Udp, tcp: Tcp, tls: Tls, https: Https, h3: Http3, quic: Quic);
        })*
    };
    (@upstreams $on:ident; $($upstream:ident: $from:ident),*) => {
        $(#[tokio::test]
        async fn $upstream() {
            run(Transport::$on, Transport::$from).await;
        })*
    };
}

pairs! {
    udp: Udp;
    tcp: Tcp;
    dot: Tls;
    doh: Https;
    doh3: Http3;
    doq: Quic;
}
