// Bouncy Castle's view of alternative signatures (X.509 2019), for the test `interop`.
//
//   java -cp JARS Alternative.java check ISSUER SUBJECT   true or false: are both of SUBJECT's signatures ISSUER's?
//   java -cp JARS Alternative.java make CERTIFICATE       makes a self-signed one with ECDSA on P-256 and on P-384

import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.spec.ECGenParameterSpec;
import java.util.Date;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.BasicConstraints;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.KeyUsage;
import org.bouncycastle.asn1.x509.SubjectAltPublicKeyInfo;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;

public class Alternative {
    private static final BouncyCastleProvider PROVIDER = new BouncyCastleProvider();

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("check")) {
            System.out.println(check(read(arguments[1]), read(arguments[2])));
        } else {
            Files.write(Path.of(arguments[1]), make().getEncoded());
        }
    }

    private static X509CertificateHolder read(String file) throws Exception {
        return new X509CertificateHolder(Files.readAllBytes(Path.of(file)));
    }

    private static boolean check(X509CertificateHolder issuer, X509CertificateHolder subject)
            throws Exception {
        JcaContentVerifierProviderBuilder builder =
                new JcaContentVerifierProviderBuilder().setProvider(PROVIDER);
        SubjectAltPublicKeyInfo alternative =
                SubjectAltPublicKeyInfo.fromExtensions(issuer.getExtensions());
        SubjectPublicKeyInfo key =
                SubjectPublicKeyInfo.getInstance(alternative.toASN1Primitive());
        return subject.isSignatureValid(builder.build(issuer))
                && subject.isAlternativeSignatureValid(builder.build(key));
    }

    private static X509CertificateHolder make() throws Exception {
        KeyPair classical = pair("P-256");
        KeyPair alternative = pair("P-384");
        X500Name name = new X500Name("O=lab,CN=STOQ root");
        Date begin = new Date(1795327200_000L);
        Date end = new Date(2110687200_000L);
        X509v3CertificateBuilder builder = new JcaX509v3CertificateBuilder(
                name, BigInteger.valueOf(0x400aff), begin, end, name, classical.getPublic());
        builder.addExtension(Extension.basicConstraints, true, new BasicConstraints(1));
        builder.addExtension(Extension.keyUsage, true, new KeyUsage(KeyUsage.keyCertSign));
        builder.addExtension(Extension.subjectAltPublicKeyInfo, false,
                SubjectPublicKeyInfo.getInstance(alternative.getPublic().getEncoded()));
        return builder.build(
                new JcaContentSignerBuilder("SHA256withECDSA").setProvider(PROVIDER)
                        .build(classical.getPrivate()),
                false,
                new JcaContentSignerBuilder("SHA384withECDSA").setProvider(PROVIDER)
                        .build(alternative.getPrivate()));
    }

    private static KeyPair pair(String curve) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", PROVIDER);
        generator.initialize(new ECGenParameterSpec(curve));
        return generator.generateKeyPair();
    }
}
